"""What tests of the promise share: a middle that speaks for the provider, holds, doubles, hides and exchanges.

Nothing here sleeps or listens; who said what, and what must follow from it, is told in the tests.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import date, timedelta
from email.utils import formatdate
from fnmatch import fnmatchcase
from typing import Any, Literal, TypeVar, cast

import httpx
from typer.testing import CliRunner

import reconcile
from cli.main import app
from gateway_client import ChargeOnceError, Client, RetryPolicy, State
from tests.kit import ORDER
from tests.kit_clients import AnyClient
from tests.nightly import Night

T = TypeVar("T")
Json = dict[str, Any]
Echo = Literal["right", "wrong"] | None
"""The `Idempotency-Key` of an answer: the request's, somebody else's, or none, as of whoever is not the provider."""

INTENTS, CHARGES, ACCOUNT = "/v1/payment_intents", "/v1/charges", "/v1/account"
POST = f"POST {INTENTS}"
BECAUSE = "the customer left"
ONE_TRY = RetryPolicy(sends_max=1, in_flight_s_max=0.0)
"""One send in a call, also when it is answered "being executed now"."""
SOMEBODY_ELSES = "pc1_" + "a" * 52

# The published bounds, as the tests know them.
HELD = timedelta(hours=1)
FIRST_BYTE, EXECUTION = timedelta(seconds=10), timedelta(seconds=90)
DELIVERED = HELD + FIRST_BYTE + EXECUTION  # the latest that a send is executed, after it was begun
TOLERANCE_S = 299  # a second short of five minutes: a Date is in whole seconds
LISTS_BEHIND = timedelta(hours=2)
ROLL_FORWARD = timedelta(hours=72)
KEY_LIFE = timedelta(hours=22, minutes=49, seconds=50)
QUIET = timedelta(hours=3, minutes=11, seconds=40)
UNPROVEN = timedelta(hours=75, minutes=11, seconds=40)
MARGIN = timedelta(seconds=2)
"""A Date is in whole seconds."""

# What a middle says. None of it is the provider's.
PAGE = b"<!doctype html><html><body><h1>Access denied</h1></body></html>"


def error(**fields: object) -> Json:
    """An error as the provider writes them."""
    return {"error": {"message": "No.", "type": "invalid_request_error", **fields}}


FOREIGN: dict[str, object] = {
    "a page": PAGE,
    "nothing": b"",
    "other JSON": {"message": "Forbidden", "code": 15},
    "its form": error(),
}
"""Bodies of whoever is not the provider; the last one looks as if it were."""
INVALID = error(code="resource_missing", param="payment_method")


def may(call: Callable[[], T]) -> T | None:
    """What a caller gets who goes on whatever he is told."""
    with suppress(ChargeOnceError):
        return call()
    return None


class Middle(Night):
    """A world with somebody between its provider and its clients. What is asked for last is looked at first."""

    date_s = 0.0
    """How far the provider's Date is ahead of the true time."""
    created_s = 0.0
    """How far ahead `created` of its new objects is."""

    # --- what happens to requests

    def on(
        self, act: Callable[[httpx.Request], httpx.Response | None], asked: str = POST, times: int = 1
    ) -> list[httpx.Request]:
        """`act` answers the next `times` requests whose "METHOD /path" matches the pattern; the requests."""
        caught: list[httpx.Request] = []

        def hook(request: httpx.Request) -> httpx.Response | None:
            if len(caught) == times or not fnmatchcase(f"{request.method} {request.url.path}", asked):
                return None
            caught.append(request)
            return act(request)

        self.hooks.insert(0, hook)
        return caught

    def deliver(self, request: httpx.Request, fault: str | None = None) -> httpx.Response | None:
        """The provider gets a request now; its answer, if there is one."""
        if fault is not None:
            self.sandbox.fault(fault, on=f"{request.method} {request.url.path}")
        try:
            return self._answered(request)
        except httpx.TransportError:
            return None

    def _answered(self, request: httpx.Request) -> httpx.Response:
        known = {made["id"] for made in self.objects}
        response = self.sandbox.transport().handle_request(request)
        for made in self.objects if self.created_s else ():
            if made["id"] not in known:
                self.sandbox.change(made["id"], created=made["created"] + int(self.created_s))
        response.headers["Date"] = self.date_header
        return response

    def says(
        self,
        status: int,
        body: object = None,
        *,
        echo: Echo = None,
        executed: bool = False,
        fault: str | None = None,
        asked: str = POST,
        times: int = 1,
        headers: dict[str, str] | None = None,
    ) -> list[httpx.Request]:
        """Somebody answers in the provider's place, `executed` (with a fault, it may be) or not; the requests.

        A body that can be called is made when it is needed.
        """

        def act(request: httpx.Request) -> httpx.Response:
            if executed or fault is not None:
                self.deliver(request, fault)
            more = {"Date": self.date_header, **(headers or {})}
            if echo is not None:
                more["Idempotency-Key"] = request.headers["Idempotency-Key"] if echo == "right" else SOMEBODY_ELSES
            said = body() if callable(body) else body
            if isinstance(said, bytes):
                return httpx.Response(status, content=said, headers=more)
            return httpx.Response(status, json=said, headers=more)

        return self.on(act, asked, times)

    def holds(self, times: int = 1) -> list[httpx.Request]:
        """The next sends lie somewhere on their way, and nobody answers; the requests."""

        def act(request: httpx.Request) -> httpx.Response:
            raise httpx.ReadTimeout("held", request=request)

        return self.on(act, times=times)

    def lists_behind(self, behind: timedelta) -> None:
        """The provider's lists show what is made this much later."""

        def act(request: httpx.Request) -> httpx.Response:
            response = self.deliver(request)
            assert response is not None
            page = response.json()
            shown = self.clock.true_time() - behind.total_seconds() + self.created_s
            page["data"] = [one for one in page["data"] if one["created"] <= shown]
            return httpx.Response(response.status_code, json=page, headers={"Date": self.date_header})

        for path in (INTENTS, CHARGES):
            self.on(act, f"GET {path}", times=9999)

    def skew(self) -> None:
        """From now on `date_s` and `created_s` count."""
        self.hooks.append(self._answered)

    @property
    def date_header(self) -> str:
        """What the provider's clock says now."""
        return formatdate(self.clock.true_time() + self.date_s, usegmt=True)

    # --- what callers and people do

    def insist(self, *hours: float) -> None:
        """Somebody who tries everything, again and again: resume, the same call, and the next attempt."""
        for passed in hours:
            self.clock.advance(hours=passed)
            client = self.open_client(retry=ONE_TRY)
            may(client.resume)
            may(lambda: client.charge(ORDER))  # noqa: B023 - called at once
            self.try_anew(client)

    def try_anew(self, client: AnyClient | None = None, attempt: int = 2) -> None:
        """The next attempt, if it is allowed."""
        trying = client or self.open_client(retry=ONE_TRY)
        may(lambda: trying.charge(ORDER, attempt=attempt))

    def cancel(self) -> None:
        """Give the charge up."""
        may(lambda: self.open_client().cancel(ORDER.intent_id, because=BECAUSE))

    def resumed(self) -> State:
        """What the first attempt is when a new process has resumed."""
        may(self.open_client(retry=ONE_TRY).resume)
        return self.state()

    def open_second(self) -> AnyClient:
        """A process beside one that is at it: it is not asynchronous, for a loop does one thing at a time."""
        runner, self._runner = self._runner, None
        try:
            return self.open_client(retry=ONE_TRY)
        finally:
            self._runner = runner

    def run(self, day: date | None = None, tz: str = "UTC", dry_run: bool = False) -> reconcile.RunResult:
        """The nightly run, which is never asynchronous."""
        return reconcile.run(cast("Client", self.open_second()), day or self.today, tz, dry_run)

    def resolve(self) -> int:
        """A person closes every open finding; how many there were."""
        found = self.sql("SELECT id FROM paycli_findings WHERE closed_at IS NULL")
        for (finding_id,) in found:
            command = ["resolve", finding_id, "--because", "looked at"]
            assert CliRunner().invoke(app, command, env={"PAYCLI_DATABASE_URL": self.url}).exit_code == 0
        return len(found)

    # --- what is there

    @property
    def objects(self) -> list[Json]:
        """All that the provider has."""
        return [*self.sandbox.payment_intents, *self.sandbox.charges]

    @property
    def charged(self) -> int:
        """Successes of whatever metadata."""
        return sum(charge["status"] == "succeeded" for charge in self.sandbox.charges)

    def our_intent(self) -> Json:
        """The provider's newest intent."""
        return self.sandbox.payment_intents[0]

    @property
    def findings(self) -> list[tuple[Any, ...]]:
        """Code, attempt and whether it is open."""
        return self.sql("SELECT code, attempt, closed_at IS NULL FROM paycli_findings ORDER BY code, attempt")


def hours(passed: timedelta) -> float:
    """As `insist` takes them."""
    return passed / timedelta(hours=1)


def seconds(passed: timedelta) -> float:
    """As `advance` takes them."""
    return passed.total_seconds()


def steps(*moments: timedelta) -> Sequence[float]:
    """Hours between moments that are told from one beginning."""
    return [hours(later - earlier) for earlier, later in zip((timedelta(0), *moments), moments, strict=False)]
