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
    kept: str | None = None  # the kept schedule that shows it (`tests/sim/kept.py`), by how its name begins
    test: str | None = None  # the test that shows it, where no schedule goes (real threads and transactions)
    also: tuple[str, str, str] | None = None  # file, old and new of the other place where the same rule is kept
    seeds_max: int = SEEDS_MAX

    @property
    def sought(self) -> bool:
        """True when seeds are searched for one that shows it: neither a schedule nor a test is named for it."""
        return self.kept is None and self.test is None

    @property
    def places(self) -> tuple[tuple[str, str, str], ...]:
        """File, old and new of each place of the mistake."""
        return ((self.file, self.old, self.new), *(() if self.also is None else (self.also,)))

    @property
    def sources(self) -> dict[str, str]:
        """The mistaken source of each file. Raises ValueError when a statement is not there just once."""
        found: dict[str, str] = {}
        for file, old, new in self.places:
            source = found.get(file) or (ROOT / file).read_text(encoding="utf-8")
            if source.count(old) != 1:
                raise ValueError(f"{self.name}: {file} has this statement {source.count(old)} times: {old}")
            found[file] = source.replace(old, new)
        return found


def module_of(file: str) -> str:
    """The module that a file is."""
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


class _Mistaken(SourceFileLoader):
    """Loads one module from a mistaken source; bytecode is neither read nor written."""

    def __init__(self, file: str, source: str) -> None:
        super().__init__(module_of(file), str(ROOT / file))
        self._source = source

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self._source.encode(), self.path)


class _Finder(PathFinder):
    """Finds the mistaken modules before anybody else does."""

    def __init__(self, mutant: Mutant) -> None:
        self._sources = {module_of(file): (file, source) for file, source in mutant.sources.items()}

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:  # type: ignore[override]
        if fullname not in self._sources:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        assert spec is not None, fullname
        loader: Loader = _Mistaken(*self._sources[fullname])
        spec.loader = loader
        return spec


def mutate(mutant: Mutant) -> None:
    """Let this process run with the mistake."""
    early = sorted(name for name in sys.modules if name.partition(".")[0] in ("gateway_client", "reconcile"))
    if early:
        raise RuntimeError(f"imported before the mutant was: {', '.join(early)}")
    sys.meta_path.insert(0, _Finder(mutant))
