"""Which pending rows are older than their state may be: one condition for alerts and for what a run flags."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ColumnElement, and_, bindparam, literal_column, or_

from gateway_client.flow.lookup import EVER
from gateway_client.record import Values
from gateway_client.state import PENDING
from gateway_client.store.rows import charges, constant
from gateway_client.tables import UtcDateTime
from reconcile.ages import Ages


def _before(what: str) -> ColumnElement[datetime]:
    return bindparam(f"before_{what}", type_=UtcDateTime())


TOO_OLD: ColumnElement[bool] = and_(
    charges.c.state.in_(constant(PENDING)),
    charges.c.created_at < _before("all"),  # for the index by age, which knows no state
    or_(
        *(
            and_(charges.c.state == literal_column(f"'{state}'"), charges.c.created_at < _before(state))
            for state in PENDING
        )
    ),
)


def too_old(ages: Ages, now: datetime) -> Values:
    """The parameters of `TOO_OLD`; an age beyond the calendar is one that nothing is older than."""
    before = {state: now - min(ages[state], now - EVER) for state in PENDING}
    return {"before_all": max(before.values()), **{f"before_{state}": at for state, at in before.items()}}
