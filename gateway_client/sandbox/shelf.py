"""Objects of one kind, newest first, and the pages that a list request cuts from them.

Which objects there are is not decided here.
"""

import itertools
import json
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator

from gateway_client.sandbox.form import Form
from gateway_client.sandbox.refusal import invalid, missing_object
from gateway_client.sandbox.wire import Json

LIMIT_MAX = 100
LIMIT_DEFAULT = 10
KNOWN_BY = ("id", "object")
LIST_PARAMETERS = ("created", "customer", "ending_before", "expand", "limit", "starting_after")


class Shelf:
    """Objects by id and by age. Equal `created` are ordered by arrival. Not thread-safe: its owner holds a lock."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._objects: dict[str, Json] = {}
        self._places: dict[str, tuple[int, int]] = {}
        self._arrivals = itertools.count()  # not the length: a removed object's number must not come again
        # (created, arrival, id), oldest first: a page is a slice, however long the ledger is.
        self._order: list[tuple[int, int, str]] = []

    def __iter__(self) -> Iterator[Json]:
        """Newest first."""
        return (self._objects[object_id] for _, _, object_id in reversed(self._order))

    def add(self, item: Json) -> None:
        self._objects[item["id"]] = item
        self._put(item["id"], (item["created"], next(self._arrivals)))

    def change(self, object_id: str, fields: Json) -> None:
        """Overwrites fields of an object, all of them or, with a ValueError, none. A new `created` moves the object."""
        item = self._objects[object_id]
        for field, value in fields.items():
            if field not in item:
                raise ValueError(f"a {self.kind} has no field {field!r}")
            if field in KNOWN_BY:
                raise ValueError(f"`{field}` cannot be changed: it is what a {self.kind} is known by")
            if field == "created" and type(value) is not int:
                raise ValueError(f"`created` must be whole seconds since 1970, an int, not {type(value).__name__}")
        item.update(json.loads(json.dumps(fields)))  # a copy: the caller may go on with what it gave
        if "created" in fields:
            self._take(object_id)
            self._put(object_id, (item["created"], self._places[object_id][1]))

    def remove(self, object_id: str) -> None:
        """Forgets an object: afterwards its id names nothing."""
        self._take(object_id)
        del self._objects[object_id], self._places[object_id]

    def get(self, object_id: str) -> Json | None:
        return self._objects.get(object_id)

    def page(self, form: Form, equal: dict[str, str]) -> tuple[list[Json], bool]:
        """The objects of one page, newest first, and whether more follow. `equal` are fields and their only value."""
        limit = form.integer("limit", least=1, most=LIMIT_MAX) or LIMIT_DEFAULT
        low, high = self._range(form)
        after, before = self._cursor(form, "starting_after"), self._cursor(form, "ending_before")
        if after is not None and before is not None:
            raise invalid("You can only specify one of these parameters: starting_after, ending_before.")
        if after is not None:
            high = min(high, bisect_left(self._order, (*after, "")))
        if before is not None:
            # The page next to the cursor, read upwards and turned round.
            start = max(low, bisect_right(self._order, (*before, "\x7f")))
            found = self._matching(range(start, high), equal, limit + 1)
            return found[:limit][::-1], len(found) > limit
        found = self._matching(range(high - 1, low - 1, -1), equal, limit + 1)
        return found[:limit], len(found) > limit

    def _put(self, object_id: str, place: tuple[int, int]) -> None:
        self._places[object_id] = place
        insort(self._order, (*place, object_id))

    def _take(self, object_id: str) -> None:
        del self._order[bisect_left(self._order, (*self._places[object_id], object_id))]

    def _matching(self, positions: range, equal: dict[str, str], count_max: int) -> list[Json]:
        found: list[Json] = []
        for position in positions:
            item = self._objects[self._order[position][2]]
            if all(item[field] == value for field, value in equal.items()):
                found.append(item)
                if len(found) == count_max:
                    break
        return found

    def _range(self, form: Form) -> tuple[int, int]:
        """Positions from the first object that `created` allows up to, and not including, the first beyond it."""
        low, high = 0, len(self._order)
        for bound, seconds in form.integers("created", ("gt", "gte", "lt", "lte")).items():
            first, beyond = bisect_left(self._order, (seconds,)), bisect_left(self._order, (seconds + 1,))
            if bound in ("", "gte"):
                low = max(low, first)
            if bound == "gt":
                low = max(low, beyond)
            if bound in ("", "lte"):
                high = min(high, beyond)
            if bound == "lt":
                high = min(high, first)
        return low, high

    def _cursor(self, form: Form, name: str) -> tuple[int, int] | None:
        object_id = form.text(name)
        if object_id is None:
            return None
        if object_id not in self._places:
            raise missing_object(self.kind, object_id, param=name)
        return self._places[object_id]
