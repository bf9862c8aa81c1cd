"""Where each mutant was last seen: the seed that is tried first, before seeds are searched. `seen.json` is the table.

A seed's schedule changes with the code and with the plots, so what is written down there is a hint and no proof:
where it shows nothing any more, the search goes on as if it were not there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

FILE = Path(__file__).with_name("seen.json")


def read() -> dict[str, int]:
    """The seeds by the names of the mutants."""
    found: dict[str, int] = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    return found


def write(seeds: Mapping[str, int], names: frozenset[str]) -> None:
    """Write the table anew, with nothing in it but what there is by these names."""
    kept = {name: seed for name, seed in sorted(seeds.items()) if name in names}
    written = FILE.with_suffix(".new")  # others read it meanwhile: it is there as a whole, or as it was
    written.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    written.replace(FILE)
