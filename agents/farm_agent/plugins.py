"""Folder -> names -> module: the only registry. The file's name is the kind's name; works inside a zip too."""

from __future__ import annotations

import importlib
import pkgutil

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import List


def names(package: str) -> List[str]:
    """The names of every kind in a plural folder such as `farm_agent.runtimes`, sorted."""
    paths = importlib.import_module(package).__path__
    return sorted(module.name for module in pkgutil.iter_modules(paths) if not module.name.startswith("_"))


def load(package: str, name: str) -> ModuleType:
    """The module of one kind. Raises KeyError, with the known names, where there is no such file."""
    known = names(package)
    if name not in known:
        folder = package.rpartition(".")[2]
        raise KeyError(f"{folder[:-1]} {name!r} is not known; known {folder}: {', '.join(known)}")
    return importlib.import_module(package + "." + name)
