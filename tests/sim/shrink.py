"""From a failing schedule to a short one: decisions are left out for as long as the same check still fails."""

from __future__ import annotations

from collections.abc import Callable

Taken = dict[str, str]


def shrink(taken: Taken, fails: Callable[[Taken], bool]) -> Taken:
    """A small part of the decisions that still fails: no single one of it can be left out."""
    size = max(1, len(taken) // 2)
    while True:
        names = list(taken)
        smaller = None
        for start in range(0, len(names), size):
            without = {name: taken[name] for name in names[:start] + names[start + size :]}
            if fails(without):
                smaller = without
                break
        if smaller is not None:
            taken = smaller
            size = min(size, max(1, len(taken) // 2))
        elif size == 1:
            return taken
        else:
            size = max(1, size // 2)
