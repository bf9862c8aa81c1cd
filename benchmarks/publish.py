"""Write a run into `docs/benchmarks.md`: its tables between two marks, its picture beside the page, its JSON."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import markdown, tables_of
from benchmarks.sections import Section

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGE, PICTURE = DOCS / "benchmarks.md", DOCS / "benchmarks.svg"
PUBLISHED = Path(__file__).with_name("results") / "published.json"
BEGIN, END = "<!-- measured -->", "<!-- /measured -->"


def publish(sections: Sequence[Section], about: dict[str, Any], file: Path) -> None:
    """Put the tables, the picture and the JSON of a run where readers of the documentation find them."""
    shutil.copyfile(file, PUBLISHED)
    drawn = file.with_suffix(".svg")
    if drawn.exists():
        shutil.copyfile(drawn, PICTURE)
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(with_results(page, sections, about, has_picture=PICTURE.exists()), encoding="utf-8")


def with_results(page: str, sections: Sequence[Section], about: dict[str, Any], *, has_picture: bool) -> str:
    """Return the page with this run between its marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    where = (
        f"Measured at {about['at']} at commit {about['commit']}: {about['cores']} cores, Python {about['python']}, "
        f"SQLite {about['sqlite']}, PostgreSQL {about['postgresql']}."
    )
    drawn = (
        "![Charges a second as ratios to the bare SDK, and the nightly run](benchmarks.svg)\n\n" if has_picture else ""
    )
    return f"{before}{BEGIN}\n{where}\n\n{drawn}{markdown(tables_of(sections))}\n{END}{after}"
