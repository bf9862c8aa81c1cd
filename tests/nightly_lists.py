"""A provider's lists for tests of the nightly run: in any order, few objects on a page, and trouble where it is told.

What the pages hold is the sandbox's ledger, in Stripe's format; what a run makes of them is told in the tests.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from email.utils import formatdate
from itertools import pairwise
from typing import Any

import httpx

from reconcile.reading import PARTS_FOR_EACH
from reconcile.throttle import WINDOWS
from tests.kit import START
from tests.nightly import Codes, Night

INTENTS, CHARGES = "/v1/payment_intents", "/v1/charges"
LISTS = [INTENTS, CHARGES]
DAY = START.date()
PART_S = 24 * 3600 // (WINDOWS * PARTS_FOR_EACH)  # no look-up begins at such a second

Object = dict[str, Any]
Trouble = Callable[[httpx.Request], httpx.Response | None]
"""What becomes of one question: an answer instead of the provider's, or an exception; None: the provider answers."""

RECOVERED, ABSENT = ("outcome_recovered", "doubt"), ("outcome_recovered", "lost")
IMPORTED, GONE = ("missing_locally", "behind"), ("missing_at_provider", "gone")
ALL: Codes = {RECOVERED, ABSENT, IMPORTED, GONE}
READ: Codes = {RECOVERED, IMPORTED}
"""Of `ALL`, what is seen, and does not rest on absence."""


def newest_first(found: Object) -> tuple[Any, ...]:
    """Stripe's order."""
    return (-found["created"],)


class Lists:
    """A provider of its own for the lists: in any order, with few objects on a page, and trouble where it is told.

    A run reads them twice: those of its window, a day in UTC, and then further back if something waits for proof.
    """

    def __init__(self, world: Night, rows: int = 2, windows: int = 1) -> None:
        self.world, self.rows = world, rows
        world.windows = windows  # by one window a trouble has its place: so many pages after the first
        self.order: Callable[[Object], tuple[Any, ...]] = newest_first
        self.bounded = True
        self.repeated = 1  # how often each object is listed, one after the other
        self.overlap = 0  # how many objects of a page are listed on the next one again
        self.change: Callable[[Object], None] = lambda found: None
        self.asked: list[tuple[str, str]] = []
        """Path and cursor ("": from the beginning) of each question about the window."""
        self.asked_back: list[tuple[str, str]] = []
        """Likewise, of the reading further back."""
        self.bounds: set[tuple[int, int]] = set()
        """What the window was each time."""
        self.troubles: list[tuple[str, int, Trouble]] = []
        self.troubles_back: list[tuple[str, int, Trouble]] = []
        """From this page of this list on, every question meets this trouble."""
        world.hooks.append(self.hook)

    def cursors(self, path: str) -> list[str]:
        """The cursors of the window's list, each said once however often it was tried."""
        return _once(self.asked, path)

    def hook(self, request: httpx.Request) -> httpx.Response | None:
        path, params = request.url.path, request.url.params
        if request.method != "GET" or path not in LISTS:
            return None
        low, high = int(params["created[gte]"]), int(params["created[lte]"])
        of_window = low % PART_S == 0
        asked, troubles = (self.asked, self.troubles) if of_window else (self.asked_back, self.troubles_back)
        if of_window:
            self.bounds.add((low, high))
        cursor = params.get("starting_after", "")
        asked.append((path, cursor))
        assert len(asked) < 300, "this goes on for ever"
        for of, page, trouble in troubles:
            if of == path and len(_once(asked, path)) >= page:
                answer = trouble(request)
                if answer is not None:
                    return answer
        return self.page(path, params, cursor)

    def page(self, path: str, params: httpx.QueryParams, cursor: str) -> httpx.Response:
        sandbox = self.world.sandbox
        found = list(sandbox.payment_intents if path == INTENTS else sandbox.charges)
        if self.bounded:
            low, high = int(params["created[gte]"]), int(params["created[lte]"])
            found = [one for one in found if low <= one["created"] <= high]
        ids = [one["id"] for one in sorted(found, key=self.order)]
        if cursor not in ("", *ids):
            error = {"type": "invalid_request_error", "code": "resource_missing", "param": "starting_after"}
            return self.answer(400, {"error": error})
        by_id = {one["id"]: one for one in found}
        left = ids[ids.index(cursor) + 1 - self.overlap if cursor else 0 :]
        data = [dict(by_id[one]) for one in left[: self.rows] for _ in range(self.repeated)]
        for one in data:
            self.change(one)
        return self.answer(200, listed(path, data, has_more=len(left) > self.rows))

    def answer(self, status: int, body: object, **headers: str) -> httpx.Response:
        date = formatdate(self.world.clock.true_time(), usegmt=True)
        return httpx.Response(status, json=body, headers={"Date": date, **headers})


def _once(asked: list[tuple[str, str]], path: str) -> list[str]:
    cursors = [cursor for asked_path, cursor in asked if asked_path == path]
    return [now for before, now in pairwise(["none yet", *cursors]) if now != before]


def listed(path: str, data: Sequence[Object], *, has_more: bool) -> Object:
    """The body of a page."""
    return {"object": "list", "data": list(data), "has_more": has_more, "url": path}


def a_day(world: Night) -> Lists:
    """A day with one of each, oldest first, two seconds apart; when it is run, keys' lives and quiet times are over."""
    steps: list[Callable[[], object]] = [
        lambda: world.doubt("lost", "told_429"),
        lambda: world.give_up("lost"),
        lambda: world.stranger_pays(500),
        lambda: world.pay_behind_our_back("behind"),
        lambda: world.pay("fine"),
        lambda: world.stranger_pays(700),
        lambda: world.pay("gone"),
        lambda: world.doubt("doubt"),
    ]
    for step in steps:
        step()
        world.clock.advance(seconds=2)
    row = world.row("gone")
    world.sandbox.remove(row["provider_charge_id"])
    world.sandbox.remove(row["provider_intent_id"])
    world.clock.advance(hours=23.5)
    return Lists(world)


def times(count: int, trouble: Trouble) -> Trouble:
    """This trouble, so often and then no more."""
    left = [count]

    def limited(request: httpx.Request) -> httpx.Response | None:
        left[0] -= 1
        return trouble(request) if left[0] >= 0 else None

    return limited


def strangers(world: Night, count: int, *, seconds_apart: float = 1) -> None:
    for _ in range(count):
        world.stranger_pays(500)
        world.clock.advance(seconds=seconds_apart)


def circle(lists: Lists) -> Trouble:
    """The end of a list leads back to its beginning."""

    def trouble(request: httpx.Request) -> httpx.Response | None:
        path, params = request.url.path, request.url.params
        page = lists.page(path, params, params.get("starting_after", ""))
        return None if page.json()["has_more"] else lists.page(path, params, "")

    return trouble
