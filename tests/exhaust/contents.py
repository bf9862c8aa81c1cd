"""Contents of the database, by number: the same rows are the same number. What an effect makes of which contents.

Contents are two numbers: of what is shared, and of what the nightly run keeps for itself, which is nothing before it
begins and when it is gone. What is written for people and never read by a flow makes no other contents: the history of
an attempt, and the columns of `FOR_PEOPLE` (blind.py). An effect is performed once for all contents that are the same
in the tables which it touches.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import reconcile.store.performing  # noqa: F401 - the functions of a run's effects
from gateway_client.errors import ChargeOnceError
from gateway_client.flow.effects import MeetProvider
from gateway_client.gateways.base import NoReply, Reply
from gateway_client.tables import Base
from tests.exhaust.actors import START_S, Place, Told, process_at
from tests.exhaust.blind import FOR_PEOPLE, blind
from tests.sim.memory import Memory
from tests.sim.safety import Broken

HISTORY = "paycli_events"
OF_A_RUN = (
    "paycli_runs",
    "paycli_run_parts",
    "paycli_run_agreed",
    "paycli_run_items",
    "paycli_run_unreadable",
    "paycli_run_findings",
)
COLUMNS = {made.name: tuple(column.name for column in made.columns) for made in Base.metadata.sorted_tables}
SHARED = tuple(name for name in COLUMNS if name not in (HISTORY, *OF_A_RUN))
TABLES = (*SHARED, *OF_A_RUN)
_NAMES = re.compile(rf"\b({'|'.join(COLUMNS)})\b")

Rows = tuple[tuple[Any, ...], ...]
Image = tuple[int, ...]
"""The contents of each table, by number."""
Change = tuple[dict[int, int], Told]
"""The tables that an effect has changed, and what came of it."""
NOTHING = 0
"""What a run keeps for itself before it begins, and when it is gone."""


def _reading(name: str) -> str:
    columns = (f'0 AS "{one}"' if one in FOR_PEOPLE.get(name, ()) else f'"{one}"' for one in COLUMNS[name])
    return f"SELECT {', '.join(columns)} FROM {name} ORDER BY 1, 2, 3"


_READ = tuple(map(_reading, TABLES))
_WRITE = tuple(f"INSERT INTO {name} VALUES ({', '.join('?' * len(COLUMNS[name]))})" for name in TABLES)


class Watched(Memory):
    """A store that notes which tables are touched."""

    def __init__(self) -> None:
        super().__init__()
        self.touched: set[str] = set()
        self._tables: dict[Any, list[str]] = {}

    def execute(self, statement: Any, values: Any = None) -> Any:
        """One statement of the transaction."""
        return self._noted(statement, lambda: super(Watched, self).execute(statement, values))

    def exec_driver_sql(self, statement: str, values: tuple[Any, ...]) -> Any:
        """One statement that is written for the driver."""
        return self._noted(statement, lambda: super(Watched, self).exec_driver_sql(statement, values))

    def _noted(self, statement: Any, execute: Callable[[], Any]) -> Any:
        tables = self._tables.get(statement)
        if tables is None:
            tables = self._tables[statement] = []
            self._connection.set_trace_callback(lambda text: tables.extend(_NAMES.findall(text)))
        result = execute()
        self._connection.set_trace_callback(None)
        self.touched.update(tables)
        return result


class Contents:
    """One database, which goes from any contents to any other."""

    def __init__(self, introduction: Reply | NoReply) -> None:
        self.memory = Watched()
        self._shared: dict[Image, int] = {}
        self._nights: dict[Image, int] = {}
        self._images: list[Image] = []  # of what is shared
        self._night_images: list[Image] = []
        self._rows: list[list[Rows]] = [[] for _ in TABLES]  # by table and number
        self._rows_numbers: list[dict[Rows, int]] = [{} for _ in TABLES]
        self._here: list[int] = [-1] * len(TABLES)
        self._known: dict[str, dict[tuple[int, ...], dict[Image, Change]]] = {}
        self._troubles: dict[tuple[str, str], Told] = {}
        # To the store it is all one which process performs an effect, but for this: does it know the provider's time?
        strange, met = (process_at(lambda: START_S, self.memory) for _ in range(2))
        met.fetched.reply = introduction
        met.perform(MeetProvider())
        self._processes = {False: strange, True: met}
        self.look()  # number 0 of each table is the empty one

    # --- from contents to contents

    def look(self) -> int:
        """The number of what is on disk now, and shared."""
        self._here = [self._read(at) for at in range(len(TABLES))]
        return self._numbers(tuple(self._here))[0]

    def _read(self, at: int) -> int:
        rows = tuple(self.memory.read(_READ[at]))
        number = self._rows_numbers[at].setdefault(rows, len(self._rows[at]))
        if number == len(self._rows[at]):
            self._rows[at].append(rows)
        return number

    def _numbers(self, image: Image) -> tuple[int, int]:
        shared, night = image[: len(SHARED)], image[len(SHARED) :]
        return _number(shared, self._shared, self._images), _number(night, self._nights, self._night_images)

    def go_to(self, shared: int, night: int = NOTHING) -> None:
        """Put these contents on disk, without any history."""
        image, here = self._images[shared] + self._night_images[night], self._here
        self.memory.write(f"DELETE FROM {HISTORY}")
        other = [at for at in range(len(TABLES)) if image[at] != here[at]]
        for at in other:
            self.memory.write(f"DELETE FROM {TABLES[at]}")
        for at in other:
            for row in self._rows[at][image[at]]:
                self.memory.write(_WRITE[at], *row)
            here[at] = image[at]

    def leave(self) -> None:
        """Somebody else has written: nothing is known of what is on disk."""
        self._here = [-1] * len(TABLES)

    # --- effects

    def perform(self, shared: int, night: int, place: Place) -> tuple[int, int, Told]:
        """What the effect of a place makes of these contents, and what comes of it."""
        image = self._images[shared] + self._night_images[night]
        known = self._known.setdefault(place.asks, {})
        for touched, changes in known.items():
            change = changes.get(tuple([image[at] for at in touched]))
            if change is not None:
                break
        else:
            touched, change = self._perform(shared, night, place)
            known.setdefault(touched, {})[tuple([image[at] for at in touched])] = change
        changed, told = change
        if not changed:
            return shared, night, told
        return *self._numbers(tuple([changed.get(at, rows) for at, rows in enumerate(image)])), told

    def _perform(self, shared: int, night: int, place: Place) -> tuple[tuple[int, ...], Change]:
        self.go_to(shared, night)
        self.memory.touched.clear()
        before, image = self._states(), list(self._here)
        told = self._told(place)
        self._check_history(before)
        touched = tuple(at for at, name in enumerate(TABLES) if name in self.memory.touched)
        after = {at: self._read(at) for at in touched}
        for at in touched:
            self._here[at] = -1 if TABLES[at] in FOR_PEOPLE else after[at]
        return touched, ({at: rows for at, rows in after.items() if rows != image[at]}, told)

    def troubled(self, shared: int, night: int, place: Place, trouble: str) -> Told:
        """What comes of the effect when its commit fails, before or after it is done: the same for all contents."""
        key = (place.asks, trouble)
        if key not in self._troubles:
            self.go_to(shared, night)
            self.memory.trouble = trouble
            self._troubles[key] = self._told(place)
            self.memory.trouble = None
            self.leave()
        return self._troubles[key]

    def _told(self, place: Place) -> Told:
        assert place.effect is not None
        try:
            return Told(blind(self._processes[place.dated].perform(place.effect)))
        except ChargeOnceError as error:
            return Told(error.with_traceback(None), raised=True)

    def _states(self) -> set[tuple[Any, ...]]:
        return set(self.memory.read("SELECT attempt, state FROM pending_charges"))

    def _check_history(self, before: set[tuple[Any, ...]]) -> None:
        """S9: whatever changes a state appends to the history, in the same commit."""
        told = set(self.memory.read(f"SELECT attempt, state_after FROM {HISTORY}"))
        untold = self._states() - before - told
        if untold:
            raise Broken("S9", f"the row becomes {untold.pop()[1]}, and its history does not tell of it")

    def rows(self, shared: int, name: str) -> list[dict[str, Any]]:
        """The rows of one shared table, by the names of its columns."""
        at = SHARED.index(name)
        return [dict(zip(COLUMNS[name], row, strict=True)) for row in self._rows[at][self._images[shared][at]]]


def _number(image: Image, numbers: dict[Image, int], images: list[Image]) -> int:
    number = numbers.setdefault(image, len(images))
    if number == len(images):
        images.append(image)
    return number
