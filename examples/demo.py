"""`make demo`: the main job on real models, on this machine and over a real SSH server on loopback; then the farm.

Every step is a command that you can type yourself; each is printed before it runs. Everything it makes is in out/demo.
The SSH server is asyncssh's, run as you on a free loopback port with keys made for this run: a real server, no board.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests import sshd

ROOT = Path(__file__).resolve().parent.parent
MADE = ROOT / "examples" / "models" / "made"
OUT = ROOT / "out" / "demo"
FARM = Path(sys.executable).parent / "farm"
ONNX, TFLITE = MADE / "mobilenet_v2.onnx", MADE / "mobilenet_v2_int8.tflite"
BROKEN_MODEL = MADE / "hostile" / "truncated.onnx"
GOOD, FAIL, NOISY = 0, 1, 3
STARTS_S = 60.0


def environment() -> dict[str, str]:
    """Nothing of the person's own farm is used or changed."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FARM_")}
    ours = {"FARM_DATA_DIR": str(OUT / "data"), "FARM_INVENTORY": str(OUT / "inventory.yaml")}
    return {**kept, **ours, "XDG_CONFIG_HOME": str(OUT / "config")}


def farm(*words: str, status: int = GOOD, stdin: str | None = None) -> None:
    """Run one farm command as a person would; end the demo where it ends otherwise than `status`, or NOISY."""
    shown = shlex.join(["farm", *(word.replace(str(ROOT) + os.sep, "") for word in words)])
    print(f"\n\033[1m$ {shown}\033[0m" if sys.stdout.isatty() else f"\n$ {shown}", flush=True)
    found = subprocess.run([FARM, *words], env=environment(), cwd=ROOT, input=stdin, text=True).returncode
    if found not in (status, NOISY):
        raise SystemExit(f"The demo stopped: `{shown}` ended with status {found}, not {status}; see above.")
    if status != GOOD:
        print(f"(exit status {found}, as it should be)", flush=True)


@contextlib.contextmanager
def whole_farm() -> Iterator[str]:
    """`farm up` with two virtual boards, for as long as the block: its URL."""
    print("\n$ farm up --virtual-boards 2 &", flush=True)
    log = OUT / "up.log"
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [FARM, "up", "--virtual-boards", "2", "--api-port", "0"], env=environment(), cwd=ROOT, stderr=stderr
        )
    try:
        give_up = time.monotonic() + STARTS_S
        while not (found := re.search(r"up at (http://\S+)", log.read_text())):
            if process.poll() is not None or time.monotonic() > give_up:
                raise SystemExit(f"The demo stopped: `farm up` did not start. It said:\n{log.read_text()}")
            time.sleep(0.1)
        print(log.read_text().rstrip(), flush=True)
        yield found[1]
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def show_the_farm() -> None:
    """Two virtual boards, a passing and a failing submit."""
    with whole_farm() as url:
        token = (OUT / "data" / "admin.token").read_text()
        farm("login", url, "--token-stdin", stdin=token)
        farm("submit", str(ONNX), "--on", "virtual", "--wait", "--duration-s", "5", "--junit", str(OUT / "junit.xml"))
        farm("submit", str(BROKEN_MODEL), "--on", "virtual", "--wait", status=FAIL)
        farm("jobs")
        farm("board", "show", "virtual-1")


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
        show_the_farm()
    print(f"\nDone in {time.monotonic() - started:.0f} s. Figures: {OUT.relative_to(ROOT)}/*.png")


if __name__ == "__main__":
    main()
