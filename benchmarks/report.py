"""Print the tables of a run, and write them as JSON and as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable

from benchmarks.arithmetic import Measure
from benchmarks.sections import Section, Table
from benchmarks.targets import Verdict, judge

ERROR_COLUMNS = ("where", "what", "times")
TARGET_COLUMNS = ("what must hold", "must", "goal", "measured", "")


def tables_of(sections: Sequence[Section]) -> list[Table]:
    """Return the tables of all sections, then every error, then what must hold."""
    return [*(table for section in sections for table in section.tables), errors_of(sections), targets_of(sections)]


def errors_of(sections: Sequence[Section]) -> Table:
    """Return every error of every section with how often it was seen, and what was not measured."""
    table = Table("Errors", ERROR_COLUMNS)
    for section in sections:
        for (where, what), times in sorted(section.errors.items()):
            table.rows.append((f"{section.name}: {where}", what, str(times)))
        table.rows += [
            (f"{section.name}: {where}", f"not measured: {why}", "") for where, why in section.missing.items()
        ]
    if not table.rows:
        table.rows.append(("everywhere", "no error", "0"))
    return table


def targets_of(sections: Sequence[Section]) -> Table:
    """Return what must hold beside what was measured."""
    table = Table(
        "What must hold", TARGET_COLUMNS, note="measured: the worst median of the figures that a row is about"
    )
    for verdict in judge(figures_of(sections)):
        table.rows.append(_told(verdict))
    return table


def _told(verdict: Verdict) -> tuple[str, ...]:
    target = verdict.target
    goal = "" if target.goal is None else f"{target.side} {target.goal:g}"
    measured = "-" if verdict.measured is None else f"{verdict.measured:.2f}"
    return target.what, f"{target.side} {target.must:g}", goal, measured, verdict.word


def figures_of(sections: Iterable[Section]) -> dict[str, Measure]:
    """Return the figures of all sections by their names."""
    return {name: found for section in sections for name, found in section.figures.items()}


def stored(sections: Sequence[Section], about: dict[str, Any]) -> dict[str, Any]:
    """Return a run as its JSON is: what was measured, where and how, and every error."""
    verdicts = [
        {
            "what": one.target.what,
            "must": one.target.must,
            "goal": one.target.goal,
            "measured": one.measured,
            "word": one.word,
        }
        for one in judge(figures_of(sections))
    ]
    return {"about": about, "sections": {one.name: one.as_json() for one in sections}, "targets": verdicts}


def show(tables: Sequence[Table], console: Console) -> None:
    """Print tables to a terminal."""
    for table in tables:
        made = RichTable(title=table.title, title_justify="left", caption=table.note or None, caption_justify="left")
        for number, column in enumerate(table.columns):
            made.add_column(column, justify="left" if number == 0 else "right", overflow="fold")
        for row in table.rows:
            made.add_row(*row)
        console.print(made)
        console.print()


def markdown(tables: Sequence[Table]) -> str:
    """Return tables as Markdown."""
    parts = []
    for table in tables:
        lines = [f"### {table.title}", "", _line(table.columns), _line("---" for _ in table.columns)]
        lines += [_line(row) for row in table.rows]
        parts.append("\n".join([*lines, *(["", table.note] if table.note else [])]))
    return "\n\n".join(parts)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
