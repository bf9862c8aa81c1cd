"""Import what a package names when it is first asked for, so that a program pays for what it uses and no more.

Modules of ours import from each other directly, never by these names: a thread that imports one of them would wait for
the lock here, and whoever has the lock for that module.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Mapping
from importlib import import_module

# One at a time: Python locks each module by itself, and libraries whose modules import each other in a circle are seen
# half made by a second thread. A process is not forked amid an import, which nobody would finish in the child.
_importing = threading.RLock()
os.register_at_fork(before=_importing.acquire, after_in_parent=_importing.release, after_in_child=_importing.release)


def on_demand(package: str, modules: Mapping[str, str]) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Return the `__getattr__` and `__dir__` of a package (PEP 562): `modules` names the module of each public name."""
    namespace = vars(sys.modules[package])

    def get(name: str) -> object:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        with _importing:
            found: object = getattr(import_module(modules[name]), name)
        namespace[name] = found  # nobody asks for it again
        return found

    def names() -> list[str]:
        return sorted({*namespace, *modules})

    return get, names
