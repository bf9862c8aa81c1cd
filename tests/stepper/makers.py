"""Effects as an actor asks for them, made of what is there when it begins."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, cast

from gateway_client import PaymentIntent
from gateway_client.absence import Scan
from gateway_client.finding import Code, Found
from gateway_client.flow.effects import (
    BeginSend,
    Claim,
    ClaimUpon,
    DatabaseEffect,
    Draft,
    GiveUp,
    ProveAbsent,
    Settle,
)
from gateway_client.flow.leasing import Lease, Release
from gateway_client.gateways.base import Listing, Plain, Stated
from gateway_client.gateways.stripe_api import PROFILE
from gateway_client.money import Money
from gateway_client.operation import Upon, register
from gateway_client.outcome import (
    Answer,
    Declined,
    Outcome,
    Succeeded,
)
from gateway_client.proof import Item, Kind, Shown
from gateway_client.state import State
from gateway_client.store.findings import close_finding
from reconcile.effects import (
    Flag,
    Import,
    OpenedRun,
    OpenRun,
    Part,
    Repair,
    RunEffect,
    RunLease,
    SavePages,
)
from reconcile.match import Importable
from reconcile.store.told import remember
from reconcile.told import News, Told
from tests.stepper.doing import BINDING, CREDENTIAL, LISTS, ORDER, USD_20, Hand, Make, Stage, Together
from tests.tipping import TIP, TIPPING

# Charging ---------------------------------------------------------------------------------------------------------


def intent(intent_id: str = ORDER, method: str = "pm_card_visa", not_after: datetime | None = None) -> PaymentIntent:
    """What is to be paid."""
    return PaymentIntent(intent_id, USD_20, method, not_after=not_after)


def claim(
    attempt: int | None = None,
    *,
    send: bool = False,
    of: PaymentIntent | None = None,
    late: bool = False,
) -> Make:
    """Claim an attempt, with its first send when `send`; the one before it is cleared."""

    def make(stage: Stage) -> Claim:
        asked = of or intent(not_after=stage.now - timedelta(hours=1) if late else None)
        return Claim(
            asked,
            attempt,
            lambda number: Draft(BINDING.key("charge", asked.intent_id, number), f"amount=2000&n={number}", "v1"),
            PROFILE,
            BINDING,
            None if attempt is None else attempt - 1,
            CREDENTIAL if send else None,
        )

    return make


def begin(attempt: int = 1, *, intent_id: str = ORDER, lease_of: str | None = None) -> Make:
    """Begin a send, with a lease or without."""
    return lambda stage: BeginSend(
        intent_id, attempt, BINDING, PROFILE, CREDENTIAL, lambda frozen, seal: None, time_asked=True, lease_of=lease_of
    )


def settle(
    outcome: Outcome, send_no: int | None = 1, attempt: int = 1, *, status: int | None = 200, intent_id: str = ORDER
) -> Make:
    """Record the answer to a send, by what was read with it; or evidence from a question."""
    answer = Answer(outcome, proven=True, status=status, request_id=f"req_{send_no}")

    def make(stage: Stage) -> Settle:
        seen = None if send_no is None else stage.records.get((intent_id, attempt))
        return Settle(intent_id, attempt, answer, True, send_no, seen)

    return make


def found(outcome: Outcome, attempt: int = 1) -> Make:
    """Record what a question has shown."""
    return settle(outcome, None, attempt)


def giving_up(intent_id: str) -> Make:
    """Give an intent up."""
    return lambda stage: GiveUp(intent_id, "asked to", PROFILE)


def scan(stage: Stage) -> Scan:
    """A complete reading that shows nothing."""
    return Scan(stage.now - timedelta(days=30), stage.now, None, stage.now - timedelta(days=31), {}, frozenset())


def absent(stage: Stage) -> ProveAbsent:
    """Conclude absence."""
    return ProveAbsent(ORDER, 1, PROFILE, scan(stage), closed=True)


PAID = Succeeded("pi_1", "ch_1")
PAID_AGAIN = Succeeded("pi_2", "ch_2")
DECLINED = Declined("card_declined", "pi_1", "ch_1")
WORKER, OTHER_WORKER = "worker 1", "worker 2"


def leasing(worker: str) -> Make:
    """Take what is due."""
    return lambda stage: Lease(worker, 10, stage.lease_s, 0.0)


def releasing(worker: str, aside_s: float | None, *intents: str) -> Make:
    """Give rows back."""
    keys = tuple(BINDING.key("charge", one, 1) for one in intents or (ORDER,))
    return lambda stage: Release(worker, tuple((key, aside_s) for key in keys))


def tipping(reference: str, amount: int = 1500) -> Make:
    """Act upon the order's charge, with the first send: of it and of another one there is not enough for both."""

    def make(stage: Stage) -> ClaimUpon:
        register(TIPPING)
        key = BINDING.key(TIP, reference, 1)
        upon = Upon(reference, ORDER, Money(amount, "usd"))
        return ClaimUpon(TIP, upon, None, lambda number, parent: Draft(key, "tip", "v1"), PROFILE, BINDING, CREDENTIAL)

    return make


# The night --------------------------------------------------------------------------------------------------------


def item(
    charge: str, attempt: int = 1, *, shows: Shown = Shown.SUCCEEDED, amount: int = 2000, named: bool = True
) -> Item:
    """A charge of the provider."""
    return Item(
        object_id=charge,
        kind=Kind.CHARGE,
        created_at=None,
        shows=shows,
        status=shows,
        amount=amount,
        amount_received=None,
        currency="usd",
        live=False,
        reason=None if shows is Shown.SUCCEEDED else "card_declined",
        provider_intent_id=charge.replace("ch", "pi"),
        provider_charge_id=charge,
        customer=None,
        payment_method=None,
        named=named,
        namespace="default" if named else None,
        intent_id=ORDER if named else None,
        attempt=attempt if named else None,
        key=BINDING.key("charge", ORDER, attempt) if named else None,
    )


def mismatch(code: Code = Code.AMOUNT_MISMATCH, *, charged: bool = False, there: str = "succeeded 19.00 USD") -> Found:
    """A disagreement about the first attempt."""
    return Found(code, ORDER, 1, "ch_1", "unknown 20.00 USD", there, "they differ.", charged)


def stale_id() -> str:
    """The id of the finding that the first attempt is pending for too long."""
    return Found(Code.STALE_PENDING, ORDER, 1, None, "", "", "").id


def flag(night: int, one: Found | None = None) -> Make:
    """Keep a finding of a night."""
    return lambda stage: Flag(stage.nights[night], (one or mismatch(),))


def imports(night: int, attempt: int, outcome: Outcome) -> Make:
    """Write a row that is missing."""
    paid = isinstance(outcome, Succeeded)
    seen = item(f"ch_{attempt}", attempt, shows=Shown.SUCCEEDED if paid else Shown.FAILED_TRY)
    return lambda stage: Import(stage.nights[night], ORDER, attempt, Importable(seen, outcome), "v1")


def repair(night: int, outcome: Outcome, attempt: int = 1) -> Make:
    """Settle by what a night has listed."""

    def make(stage: Stage) -> Repair:
        return Repair(stage.nights[night], Settle(ORDER, attempt, Answer(outcome), True))

    return make


def of_night(kind: Callable[..., RunEffect[Any]], night: int, *rest: Any) -> Make:
    """Any other work of a night."""
    return lambda stage: kind(stage.nights[night], *rest)


def save(night: int, *items: Item) -> Make:
    """Keep a page of what is to be judged."""
    return lambda stage: SavePages(stage.nights[night], (page(items, {}),), (_read(stage.nights[night]),))


def save_agreeing(night: int) -> Make:
    """Keep a page of the first attempt's charge, which agrees with its row once that has succeeded; it is cut there."""
    stated = Stated(
        "default", False, ORDER, 1, BINDING.key("charge", ORDER, 1), State.SUCCEEDED, 2000, "usd", "pi_1", "ch_1"
    )
    plain = Plain("ch_1", Kind.CHARGE, stated)

    def make(stage: Stage) -> SavePages:
        run = stage.nights[night]
        cut = (Part(0, 1, run.window.start, run.window.end),)
        return SavePages(run, (page((plain.item(),), {0: plain}),), (_read(run),), cut)

    return make


def page(items: Sequence[Item], plain: Mapping[int, Plain]) -> Listing:
    """What a page of a list holds."""
    return Listing(len(items), plain, items.__getitem__, None, has_more=False, oldest=None, newest=None, size=0)


def _read(run: OpenedRun) -> Part:
    """How far the first list is read."""
    return Part(0, 0, run.window.start, run.window.end, 1, "ch_8")


def opening(leased_by: str) -> Make:
    """Begin a run of a window, or go on with it."""
    return lambda stage: OpenRun(stage.window, RunLease(leased_by, stage.lease_s), BINDING, LISTS)


def closing(finding_id: str, because: str = "looked at") -> Make:
    """A person closes a finding."""
    return lambda stage: Hand(lambda tx: close_finding(tx, finding_id, because))


def telling(count: int) -> Make:
    """A receiver of alerts was told: read before the delivery, remembered after it."""

    def make(stage: Stage) -> Hand:
        told = Told("stale", "warning", count, None, None, stage.now)
        return Hand(lambda tx: remember(tx, "receiver", News((), (), (told,))))

    return make


def together(*makes: Make) -> Make:
    """Several works of one process at one moment."""
    return lambda stage: Together(tuple(cast("DatabaseEffect[Any]", make(stage)) for make in makes))
