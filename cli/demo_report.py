"""The words of the demo's results: the two ledgers side by side, what is still unknown and why, and the verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from cli import output
from cli.audit import Figures, Side
from gateway_client import Charge, State, Stripe
from gateway_client.sandbox import FAULTS, Recorded


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
    there, here = figures.provider, figures.database
    rows: list[tuple[str, object, object]] = [
        (name, getattr(there, field), getattr(here, field)) for name, field in _LINES.items()
    ]
    output.table(("", "provider's ledger", "our database"), rows, right=(1, 2))
    output.data("")
    output.data(f"charged once {figures.charged_once} of {figures.charged_of}")
    for name, bad in _bad(figures).items():
        output.data(f"{name:<12} {len(bad)}{'  ' if bad else ''}{', '.join(bad)}")
    output.data(f"proven not charged {figures.absent}, still unknown {len(figures.pending)}")
    for why, count in sorted(Counter(map(_why, figures.pending)).items()):
        output.data(f"  {count} {why}")


def verdict(now: Figures, later: Figures) -> None:
    """The last line."""
    counted = ", ".join(f"{name} {len(bad)}" for name, bad in _bad(later).items())
    agree = "The ledgers agree" if now.right and later.right else "WRONG, the ledgers do not agree"
    output.data("")
    output.data(
        f"{agree}: charged once {later.charged_once} of {later.charged_of}, {counted}; still unknown "
        f"{len(now.pending)}, {len(later.pending)} three days later."
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
    """Why a charge is not final: a failed request needs the longest wait."""
    if charge.state is State.UNKNOWN and charge.last_server_error_at is not None:
        hours = Stripe.profile.quiet_after_server_error.total_seconds() / 3600
        return (
            f"the provider failed (5xx) and shows no charge, but may still make one: {charge.state} until {hours:g} h "
            "after its answer"
        )
    return f"{charge.state}: {charge.reason}"
