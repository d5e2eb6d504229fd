"""Makes the models that the tests and the demo measure: real architectures, seeded random weights, nothing downloaded.

    .venv/bin/python examples/models/make.py [--out examples/models/made] [--only 'mobilenet_v2_tiny*' ...] [--list]

What is up to date, by a hash of these sources and the versions of the libraries, is not made again.
"""

from __future__ import annotations

import argparse
import fnmatch
import hashlib
import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

HERE = Path(__file__).resolve().parent
STAMP = ".made.json"
_LIBRARIES = ("ai-edge-litert", "flatbuffers", "numpy", "onnx", "onnxruntime")

Files = dict[str, bytes]  # path below the target's own; "" for the target itself


def targets() -> dict[str, Callable[[], Files]]:
    """Every model by its path below the folder, and what makes it."""
    import hostile_models
    import mobilenet_v2
    import onnx_models
    import tflite_models

    single: dict[str, Callable[[], bytes]] = {}
    for size in mobilenet_v2.SIZES:
        single[f"{size}.onnx"] = partial(onnx_models.mobilenet, size)
        single[f"{size}_int8.onnx"] = partial(onnx_models.mobilenet_int8, size)
        single[f"{size}.tflite"] = partial(tflite_models.mobilenet, size)
        single[f"{size}_int8.tflite"] = partial(tflite_models.mobilenet_int8, size)
    single["encoder.onnx"] = onnx_models.encoder
    steady = {"latency_us": 200, "jitter": [1.0, 1.05, 0.98], "load_bytes": 4_000_000, "keep_bytes": 1_000_000}
    single["steady.fake"] = partial(hostile_models.fake, steady)
    single |= {f"hostile/{name}": make for name, make in _hostile().items()}
    made: dict[str, Callable[[], Files]] = {name: partial(_single, make) for name, make in single.items()}
    return made | {"encoder_external": onnx_models.encoder_external}


def make(out: Path, wanted: Iterable[str] = ("*",), say: Callable[[str], None] = lambda line: None) -> list[Path]:
    """Makes what matches and is not up to date; returns every path that matches. Raises ValueError where none does."""
    known = targets()
    patterns = list(wanted)
    if lost := [p for p in patterns if not fnmatch.filter(known, p)]:
        raise ValueError(f"No model matches {lost[0]!r}. --list shows the {len(known)} names there are.")
    names = [name for name in known if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]
    version = _sources_hash()
    stamp = _read_stamp(out)
    for name in names:
        entry = stamp.get(name, {})
        if entry.get("version") == version and _is_whole(out, entry.get("files")):
            say(f"{name:<34} up to date")
            continue
        start = time.monotonic()
        files = {f"{name}/{path}" if path else name: data for path, data in known[name]().items()}
        for path, data in files.items():
            _write(out / path, data)
        sizes = {path: len(data) for path, data in files.items()}
        stamp[name] = {"version": version, "files": sizes}
        _write(out / STAMP, json.dumps(stamp, indent=1, sort_keys=True).encode())
        say(f"{name:<34} {sum(sizes.values()) / 1e6:8.3f} MB  {time.monotonic() - start:5.2f} s")
    return [out / name for name in names]


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="make.py", description="Makes the models that the tests and the demo measure."
    )
    parser.add_argument("--out", type=Path, default=HERE / "made", help="the folder they go to (%(default)s)")
    parser.add_argument(
        "--only", nargs="+", default=["*"], metavar="NAME", help="names or patterns, as --list has them"
    )
    parser.add_argument("--list", action="store_true", help="print the names and make nothing")
    given = parser.parse_args(arguments)
    if given.list:
        print("\n".join(targets()))
        return 0
    start = time.monotonic()
    try:
        made = make(given.out, given.only, lambda line: print(line, file=sys.stderr, flush=True))
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{len(made)} models in {given.out}, {time.monotonic() - start:.1f} s", file=sys.stderr)
    return 0


def _hostile() -> dict[str, Callable[[], bytes]]:
    import hostile_models as bad
    import onnx_models

    single: dict[str, Callable[[], bytes]] = {
        "truncated.onnx": bad.truncated_onnx,
        "truncated.tflite": bad.truncated_tflite,
        "zero_bytes.onnx": bytes,
        "zero_bytes.tflite": bytes,
        "picture.onnx": bad.picture,
        "text.onnx": bad.text,
        "wrong_extension.tflite": partial(onnx_models.mobilenet, "mobilenet_v2_tiny"),
        "unsupported_op.onnx": bad.unsupported_op,
        "endless_loop.onnx": bad.endless_loop,
        "alloc_without_bound.onnx": bad.alloc_without_bound,
        "header_3gb.onnx": bad.header_3gb,
        "zeros_3gb.onnx": bad.zeros_3gb,
        "nan_output.onnx": bad.nan_output,
        "constant_output.onnx": bad.constant_output,
    }
    return single | {f"{name}.fake": partial(bad.fake, says) for name, says in bad.FAKES.items()}


def _single(make_bytes: Callable[[], bytes]) -> Files:
    return {"": make_bytes()}


def _sources_hash() -> str:
    digest = hashlib.sha256()
    for path in sorted(HERE.glob("*.py")):
        digest.update(path.read_bytes())
    for library in _LIBRARIES:
        digest.update(f"{library}=={importlib.metadata.version(library)}".encode())
    return digest.hexdigest()


def _read_stamp(out: Path) -> dict[str, dict[str, object]]:
    try:
        stamp = json.loads((out / STAMP).read_bytes())
    except (FileNotFoundError, ValueError):
        return {}  # without a stamp everything is made anew
    return stamp if isinstance(stamp, dict) else {}


def _is_whole(out: Path, files: object) -> bool:
    return isinstance(files, dict) and all(
        (out / path).is_file() and (out / path).stat().st_size == size for path, size in files.items()
    )


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all, and readable by the user that measures."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_bytes(data)
    part.chmod(0o644)
    os.replace(part, path)


if __name__ == "__main__":
    sys.exit(main())
