"""A mutant is data: one statement of the protocol, and what it is mistaken for. Here it is put in place, never on disk.

`mutate` makes this process import the mistaken module under the module's own name; it must come before any import of
the code under test.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib.abc import Loader
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
SEEDS_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Mutant:
    """One mistake. `incident` says where somebody made it: project, thread, what came of it."""

    name: str
    file: str
    old: str
    new: str
    incident: str | None = None
    planted: str | None = None  # its line in the table of FAULTS §3
    seeds_max: int = SEEDS_MAX

    @property
    def module(self) -> str:
        """The module that its file is."""
        return self.file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    @property
    def source(self) -> str:
        """The module's source with the mistake in it. Raises ValueError when the statement is not there just once."""
        source = (ROOT / self.file).read_text(encoding="utf-8")
        if source.count(self.old) != 1:
            raise ValueError(f"{self.name}: {self.file} has this statement {source.count(self.old)} times: {self.old}")
        return source.replace(self.old, self.new)


class _Mistaken(SourceFileLoader):
    """Loads one module from a mutant's source; bytecode is neither read nor written."""

    def __init__(self, mutant: Mutant) -> None:
        super().__init__(mutant.module, str(ROOT / mutant.file))
        self._mutant = mutant

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self._mutant.source.encode(), self.path)


class _Finder(PathFinder):
    """Finds that one module before anybody else does."""

    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:  # type: ignore[override]
        if fullname != self._mutant.module:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        assert spec is not None, fullname
        loader: Loader = _Mistaken(self._mutant)
        spec.loader = loader
        return spec


def mutate(mutant: Mutant) -> None:
    """Let this process run with the mistake."""
    early = sorted(name for name in sys.modules if name.partition(".")[0] in ("gateway_client", "reconcile"))
    if early:
        raise RuntimeError(f"imported before the mutant was: {', '.join(early)}")
    sys.meta_path.insert(0, _Finder(mutant))
