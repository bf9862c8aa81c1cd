"""The words of the demo's results: the two ledgers side by side, what is still unknown and why, and the verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from cli import output
from cli.audit import Figures, Side
from cli.demo_planted import PLANTED, TROUBLES, NightFigures, OrderFigures
from gateway_client import Charge, State, Stripe
from gateway_client.absence import quiet_for
from gateway_client.bounds import hours
from gateway_client.sandbox import FAULTS, Recorded


def step(*lines: str) -> None:
    """The next part of the story."""
    output.say("")
    for number, line in enumerate(lines):
        output.say(line if number == 0 else f"   {line}")


def report_faults(requests: Sequence[Recorded]) -> None:
    """What the provider did to us, from its own record of what arrived."""
    posts = [request for request in requests if request.method == "POST"]
    met = Counter(request.fault for request in posts)
    output.say(f"   {len(posts) - met[None]} of {len(posts)} requests met a fault:")
    rows = [(met[name], name, meaning) for name, meaning in FAULTS.items() if met[name]]
    output.table(("times", "fault", "what it does"), rows, right=(0,), write=lambda line: output.say(f"   {line}"))


def report(figures: Figures) -> None:
    """The two ledgers, and what their comparison found."""
    output.data("")
    _sides(figures)
    output.data("")
    output.data(f"charged once {figures.charged_once} of {figures.charged_of}")
    for name, bad in _bad(figures).items():
        output.data(f"{name:<12} {len(bad)}{'  ' if bad else ''}{', '.join(bad)}")
    output.data(f"proven not charged {figures.absent}, still unknown {len(figures.pending)}")
    for why, count in sorted(Counter(map(_why, figures.pending)).items()):
        output.data(f"  {count} {why}")


def _sides(figures: Figures) -> None:
    there, here = figures.provider, figures.database
    rows: list[tuple[str, object, object]] = [
        (name, getattr(there, field), getattr(here, field)) for name, field in _LINES.items()
    ]
    output.table(("", "provider's ledger", "our database"), rows, right=(1, 2))


def report_night(night: NightFigures, figures: Figures) -> None:
    """Both ledgers after the night, what was planted beside what was found, and what the second run changed."""
    step("12. The two ledgers after the night. They differ by what only a person can settle.")
    output.data("")
    _sides(figures)
    output.data("")
    found = night.found
    rows = [
        (what, intent, code if (code, intent) in found else "NOT FOUND", found.get((code, intent), ""))
        for (code, intent), (_, what) in PLANTED.items()
    ]
    rows += [("NOT PLANTED", *key, action) for key, action in found.items() if key not in PLANTED]
    output.table(("behind our back", "intent", "found as", "and"), rows)
    again = "nothing" if night.second.news == 0 else f"{night.second.news} findings"
    output.data("")
    output.data(
        f"reconciled twice: {night.first.repaired} repaired, {night.first.flagged} flagged for a person; the second "
        f"run changed {again}; alerts: {night.alerts}"
    )


def verdict(orders: Sequence[OrderFigures], now: Figures, later: Figures, night: NightFigures) -> None:
    """The last line."""
    counted = ", ".join(f"{name} {len(bad)}" for name, bad in _bad(later).items())
    agree = "The ledgers agree" if now.right and later.right else "WRONG, the ledgers do not agree"
    if not night.right:
        agree = f"WRONG, the night did not find what was planted; {agree}"
    otherwise = [one.intent_id for one in orders if not one.right]
    if otherwise:
        agree = f"WRONG, {', '.join(otherwise)} went otherwise than it must; {agree}"
    charges = ", ".join(f"{TROUBLES[one.intent_id]} {one.charges}" for one in orders)
    output.data("")
    output.data(
        f"{agree}: charged once {later.charged_once} of {later.charged_of}, {counted}; charges after {charges}; still "
        f"unknown {len(now.pending)}, {len(later.pending)} five days later; disturbed {len(PLANTED)}, found "
        f"{len(night.found)}."
    )


_LINES = {
    "intents charged": "charged",
    "money moved": "moved",
    "intents declined": "declined",
    "neither": "neither",
    "together": "together",
}
assert set(_LINES.values()) <= {*Side.__slots__, "together"}


def _bad(figures: Figures) -> dict[str, tuple[str, ...]]:
    return {
        "doubled": figures.doubled,
        "lost": figures.lost,
        "wrong": figures.wrong,
        "unasked": figures.strangers,
    }


def _why(charge: Charge) -> str:
    """Why a charge is not final, and how long that may last."""
    if charge.state is State.UNKNOWN and charge.closed_at is not None:
        waits = hours(quiet_for(charge, Stripe.profile.bounds))
        return f"closed and not found, but the provider may still charge it: {charge.state} until {waits} after that"
    return f"{charge.state}: {charge.reason}"
