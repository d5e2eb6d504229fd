"""agents/farm_agent as one zip that a board's Python runs, named by the hash of its sources.

The zip is the same, byte for byte, wherever it is made from the same sources: sorted names, fixed times and modes.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import zipfile
import zlib
from functools import cache
from pathlib import Path

import farm_agent

from farm.errors import FarmBug, StoreError

PACKAGE = "farm_agent"
MAIN = f"import sys\nfrom {PACKAGE}.__main__ import main; sys.exit(main())\n".encode()
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest a zip can say


def bundle(folder_out: Path | None = None) -> Path:
    """The agent's zip in `folder_out` (a cache folder of the user's without one), made where it is not there yet."""
    folder = cache_folder() if folder_out is None else folder_out
    path = folder / f"{agent_hash()}.zip"
    try:
        if not _is_whole(path):
            folder.mkdir(parents=True, exist_ok=True)
            _write(path)
    except OSError as error:
        raise StoreError(
            f"The agent's zip cannot be written to {folder}: {error.strerror}. Make the folder writable, or free space."
        ) from error
    return path


@cache
def agent_hash() -> str:
    """sha256, in hex, of the agent's sources: their names and bytes, and the zip's entry point."""
    digest = hashlib.sha256()
    for name, data in _members():
        digest.update(f"{name}\0{len(data)}\0".encode())
        digest.update(data)
    return digest.hexdigest()


def cache_folder() -> Path:
    """Where the zip is kept when nobody says where (XDG base directories)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "benchfarm" / "agents"


@cache
def _members() -> tuple[tuple[str, bytes], ...]:
    """Name within the zip, and content, of every file: read once, so that hash and zip are of the same bytes."""
    top = Path(farm_agent.__path__[0])
    sources = sorted(top.rglob("*.py"), key=lambda source: source.relative_to(top).as_posix())
    if not sources:
        raise FarmBug(f"The agent's sources are not in {top}. Install benchfarm again.")
    members = [(f"{PACKAGE}/{source.relative_to(top).as_posix()}", source.read_bytes()) for source in sources]
    return (("__main__.py", MAIN), *members)


def _is_whole(path: Path) -> bool:
    """Whether a zip of an earlier time holds what it should: a disk may have filled, or a hand slipped."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [(info.filename, info.CRC) for info in archive.infolist()]
    except (OSError, zipfile.BadZipFile):
        return False
    return names == [(name, zlib.crc32(data)) for name, data in _members()]


def _write(path: Path) -> None:
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".bundle-", delete=False) as file:
        part = Path(file.name)
        try:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
                for name, data in _members():
                    info = zipfile.ZipInfo(name, EPOCH)
                    info.compress_type = zipfile.ZIP_DEFLATED
                    info.create_system = 3
                    info.external_attr = 0o100644 << 16
                    archive.writestr(info, data)
            part.chmod(0o644)
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
