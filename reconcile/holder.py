"""Who this process is, and whether another one is dead for sure: asked of the machine, for the hold of a run.

Dead for sure means: on this host, and no process of that number that began then; or this process, which is not at it
any more. Anything else may be alive, and is waited for until its hold expires.
"""

from __future__ import annotations

import itertools
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reconcile.effects import Holder

_numbers = itertools.count(1)
_active: set[str] = set()


@contextmanager
def holding() -> Iterator[Holder]:
    """This process as the holder of one run, for as long as it is at it."""
    name = f"{socket.gethostname()}:{os.getpid()}:{_began(os.getpid())}:{next(_numbers)}"
    _active.add(name)
    try:
        yield Holder(name, _is_dead)
    finally:
        _active.discard(name)


def _is_dead(name: str) -> bool:
    host, pid, began, _ = name.rsplit(":", 3)
    if host != socket.gethostname():
        return False
    if int(pid) == os.getpid() and began == _began(os.getpid()):
        return name not in _active
    now = _began(int(pid))
    return now is None or ("?" not in (now, began) and now != began)


def _began(pid: int) -> str | None:
    """When a process began, in the kernel's ticks; "?" where the kernel does not say; None when there is none."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass  # it lives, as another user's
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return "?"
    return None if fields[0] in "ZX" else fields[19]  # killed, and only not yet waited for by its parent
