"""Two ledgers, the provider's and ours, compared intent by intent. Pure: planted wrong ledgers are seen to fail.

Nothing here knows what should have come out: each figure is counted from the two ledgers.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway_client import Charge, Money, PaymentIntent, State


@dataclass(frozen=True, slots=True)
class Side:
    """What one ledger says: how many intents it has charged and declined, and the money it has moved."""

    charged: int
    declined: int
    neither: int
    moved: str

    @property
    def together(self) -> int:
        """All intents."""
        return self.charged + self.declined + self.neither


@dataclass(frozen=True, slots=True)
class Figures:
    """The comparison. The tuples name intents, so that a wrong figure can be followed up."""

    provider: Side
    database: Side
    charged_once: int  # exactly one success there, and that very one is our success
    charged_of: int  # charged there or here
    doubled: tuple[str, ...]  # more than one success there
    lost: tuple[str, ...]  # a success that the other side does not have, or an intent without a row
    wrong: tuple[str, ...]  # both have it, but amount, currency, charge id or refusal differ
    strangers: tuple[str, ...]  # charged there, and nobody asked for it
    pending: tuple[Charge, ...]  # not final here
    absent: int  # proven not charged

    @property
    def right(self) -> bool:
        """Whether the promise held: nothing doubled, lost, wrong or uncalled-for, and every intent accounted for."""
        bad = (*self.doubled, *self.lost, *self.wrong, *self.strangers)
        whole = self.provider.together == self.database.together
        return not bad and whole and self.charged_once == self.charged_of


def compare(
    asked: Sequence[PaymentIntent], provider_charges: Iterable[Mapping[str, Any]], rows: Iterable[Charge]
) -> Figures:
    """Compare what was asked for, the provider's charges and our rows."""
    there = _by_intent(provider_charges)
    here: defaultdict[str, list[Charge]] = defaultdict(list)
    for row in rows:
        here[row.intent_id].append(row)
    paid = {name: [one for one in there[name] if one["status"] == "succeeded"] for name in there}
    names = [intent.intent_id for intent in asked]
    charged_there = [name for name in names if paid.get(name)]
    charged_here = [name for name in names if _success(here[name])]
    declined_there = [name for name in names if name in there and not paid[name]]
    declined_here = [name for name in names if here[name] and here[name][-1].state is State.DECLINED]
    wrong = [intent.intent_id for intent in asked if _differs(intent, there.get(intent.intent_id, ()), here)]
    once = [name for name in charged_there if len(paid[name]) == 1 and _success(here[name]) and name not in wrong]
    return Figures(
        provider=Side(
            len(charged_there),
            len(declined_there),
            len(names) - len(charged_there) - len(declined_there),
            _sum((one["amount"], one["currency"]) for name in paid for one in paid[name]),
        ),
        database=Side(
            len(charged_here),
            len(declined_here),
            sum(bool(here[name]) for name in names) - len(charged_here) - len(declined_here),
            _sum((row.amount, row.currency) for name in here for row in here[name] if row.state is State.SUCCEEDED),
        ),
        charged_once=len(once),
        charged_of=len({*charged_there, *charged_here}),
        doubled=tuple(name for name in paid if len(paid[name]) > 1),
        lost=tuple(name for name in names if bool(paid.get(name)) != bool(_success(here[name])) or not here[name]),
        wrong=tuple(wrong),
        strangers=tuple(name for name in there if name not in names),
        pending=tuple(row for name in names for row in here[name] if row.pending),
        absent=sum(row.state is State.ABSENT for name in names for row in here[name]),
    )


def _by_intent(provider_charges: Iterable[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for one in provider_charges:
        found.setdefault(one["metadata"].get("paycli_intent", f"a charge without our name, {one['id']}"), []).append(
            one
        )
    return found


def _success(rows: Sequence[Charge]) -> Charge | None:
    return next((row for row in rows if row.state is State.SUCCEEDED), None)


def _differs(intent: PaymentIntent, there: Sequence[Mapping[str, Any]], here: Mapping[str, Sequence[Charge]]) -> bool:
    """Whether the ledgers disagree about an intent that both have: its money, its charge, or its refusal."""
    asked = (intent.amount.amount, intent.amount.currency)
    rows = here[intent.intent_id]
    sums = [(one["amount"], one["currency"]) for one in there] + [(row.amount, row.currency) for row in rows]
    if any(found != asked for found in sums):
        return True
    paid = [one["id"] for one in there if one["status"] == "succeeded"]
    success = _success(rows)
    if paid and success is not None:
        return success.provider_charge_id not in paid
    return bool(rows) and rows[-1].state is State.DECLINED and not there


def _sum(amounts: Iterable[tuple[int, str]]) -> str:
    totals: Counter[str] = Counter()
    for amount, currency in amounts:
        totals[currency] += amount
    return " + ".join(str(Money(total, currency)) for currency, total in sorted(totals.items())) or "nothing"
