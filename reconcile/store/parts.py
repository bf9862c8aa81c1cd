"""Parts of a run's window: how far each of the provider's lists is read, in the commit of what was read."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import bindparam, delete, insert, select, update

from gateway_client import columns
from gateway_client.transaction import Transaction
from reconcile.effects import OpenedRun, Part

parts = columns.run_parts

_OF_RUN = parts.c.run_id == bindparam("of_run")
_READ = select(parts).where(_OF_RUN).order_by(parts.c.list_no, parts.c.part_no)
_INSERT = insert(parts)
_UPDATE = update(parts).where(_OF_RUN, parts.c.list_no == bindparam("of_list"), parts.c.part_no == bindparam("of_part"))
_FORGET = delete(parts).where(_OF_RUN)


def read_parts(tx: Transaction, run_id: str) -> tuple[Part, ...]:
    """Return the parts of a run, those of the first list first."""
    return tuple(
        Part(
            row["list_no"], row["part_no"], row["part_start"], row["part_end"], row["pages"], row["cursor"], row["done"]
        )
        for row in tx.execute(_READ, {"of_run": run_id}).mappings()
    )


def write_parts(tx: Transaction, run_id: object, new: Iterable[Part]) -> None:
    """Write parts that are new."""
    rows = [
        {
            "run_id": run_id,
            "list_no": part.list_no,
            "part_no": part.part_no,
            "part_start": part.start,
            "part_end": part.end,
            "pages": part.pages,
            "cursor": part.cursor,
            "done": part.done,
        }
        for part in new
    ]
    if rows:
        tx.execute(_INSERT, rows)


def advance_parts(tx: Transaction, run_id: str, read: Iterable[Part]) -> None:
    """Write how far parts are read."""
    rows = [
        {
            "of_run": run_id,
            "of_list": part.list_no,
            "of_part": part.part_no,
            "pages": part.pages,
            "cursor": part.cursor,
            "done": part.done,
        }
        for part in read
    ]
    if rows:
        tx.execute(_UPDATE, rows)


def read_anew(tx: Transaction, opened: OpenedRun) -> None:
    """Begin every list from its beginning, in one part."""
    tx.execute(_FORGET, {"of_run": opened.run_id})
    lists = {part.list_no for part in opened.parts}
    write_parts(tx, opened.run_id, (Part(no, 0, opened.window.start, opened.window.end) for no in sorted(lists)))
