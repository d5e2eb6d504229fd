"""`make demo`: the main job on real models, on this machine and over a real SSH server on loopback.

Every step is a command that you can type yourself; each is printed before it runs. Everything it makes is in out/demo.
The SSH server is asyncssh's, run as you on a free loopback port with keys made for this run: a real server, no board.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

from tests import sshd

ROOT = Path(__file__).resolve().parent.parent
MADE = ROOT / "examples" / "models" / "made"
OUT = ROOT / "out" / "demo"
FARM = Path(sys.executable).parent / "farm"
ONNX, TFLITE = MADE / "mobilenet_v2.onnx", MADE / "mobilenet_v2_int8.tflite"
GOOD, NOISY = 0, 3


def farm(*words: str) -> None:
    """Run one farm command as a person would; end the demo where it fails. A NOISY run (exit status 3) is shown."""
    shown = shlex.join(["farm", *(word.replace(str(ROOT) + os.sep, "") for word in words)])
    print(f"\n\033[1m$ {shown}\033[0m" if sys.stdout.isatty() else f"\n$ {shown}", flush=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FARM_")}
    status = subprocess.run(
        [FARM, *words],
        env={**environment, "FARM_DATA_DIR": str(OUT / "data"), "FARM_INVENTORY": str(OUT / "inventory.yaml")},
        cwd=ROOT,
    ).returncode
    if status not in (GOOD, NOISY):
        raise SystemExit(f"The demo stopped: `{shown}` ended with status {status}; its message is above.")


def main() -> None:
    started = time.monotonic()
    OUT.mkdir(parents=True, exist_ok=True)
    with sshd.asyncssh_server(OUT / "ssh", pin=False, path=os.environ.get("PATH", os.defpath)) as server:
        (OUT / "inventory.yaml").write_text(
            "version: 1\n"
            "boards:\n"
            "  - name: local            # this machine, through a subprocess\n"
            "    transport: local\n"
            f"    home: {OUT / 'home'}\n"
            "  - name: loopback         # this machine again, through a real SSH server\n"
            "    transport: ssh\n"
            f"    address: {server.user}@127.0.0.1:{server.port}\n"
            f"    python: {sys.executable}\n"
            f"    home: {server.home / '.benchfarm'}\n"
            "    options:\n"
            f"      keys: ['{server.client_key}']\n"
        )
        farm("probe", "local")
        farm("bench", str(ONNX), "--duration-s", "10", "--plot", str(OUT / "onnx-local.png"))
        farm("bench", str(TFLITE), "--duration-s", "10", "--plot", str(OUT / "tflite-local.png"))
        fingerprint = server.host_key.get_fingerprint()
        farm("probe", "loopback", "--accept-fingerprint", fingerprint)
        farm("bench", str(ONNX), "--duration-s", "10", "--board", "loopback", "--plot", str(OUT / "onnx-ssh.png"))
        farm("bench", str(TFLITE), "--duration-s", "10", "--board", "loopback")
        farm("runs")
    print(f"\nDone in {time.monotonic() - started:.0f} s. Figures: {OUT.relative_to(ROOT)}/*.png")


if __name__ == "__main__":
    main()
