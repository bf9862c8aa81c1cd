"""A look at the store from outside, on a connection of its own: what is on disk once all is over, in the judge's words.

And the one thing that is done to it by hand: the database's clock cannot be moved, so what waits for it comes sooner.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import URL, NullPool, create_engine, text

from tests.chaos.judge import Found, Row
from tests.kills.judge import UNPROVEN, Absence

DAYS = "extract(epoch FROM {})::float8 / 86400"


class Store:
    """The database of a campaign."""

    def __init__(self, url: URL) -> None:
        self._engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")

    def hurry(self, seconds: float) -> None:
        """What the database's clock judges comes so much sooner, as if that clock had been moved, too."""
        earlier = "{0} = {0} - :by * interval '1 second'"
        columns = ", ".join(map(earlier.format, ("leased_until", "resume_at", "first_sent_db_at")))
        self.read(f"UPDATE pending_charges SET {columns}", by=seconds)
        self.read(f"UPDATE paycli_runs SET {earlier.format('leased_until')}", by=seconds)

    def rows(self) -> list[Row]:
        columns = "intent_id, attempt, state, provider_charge_id, idempotency_key, amount, currency, reason"
        return [Row(*row) for row in self.read(f"SELECT {columns} FROM pending_charges ORDER BY 1, 2")]

    def begun(self) -> dict[str, int]:
        """Key → how many sends of it were begun."""
        of = "pending_charges JOIN paycli_sends USING (intent_id, operation, attempt)"
        return dict(self.read(f"SELECT idempotency_key, count(*) FROM {of} GROUP BY 1"))

    def orders(self) -> set[str]:
        return {intent_id for (intent_id,) in self.read("SELECT intent_id FROM orders")}

    def history(self) -> list[tuple[str, int, int, str | None, str]]:
        """Of every attempt: what happened, in its order."""
        columns = "intent_id, attempt, event_no, state_before, state_after"
        found = self.read(f"SELECT {columns} FROM paycli_events ORDER BY intent_id, attempt, event_no")
        return [(name, attempt, number, before, after) for name, attempt, number, before, after in found]

    def findings(self) -> list[Found]:
        """Those that are open."""
        found = "SELECT code, intent_id, attempt, detail FROM paycli_findings WHERE closed_at IS NULL ORDER BY found_at"
        return [Found(*row) for row in self.read(found)]

    def absences(self) -> list[Absence]:
        """Every row that is proven absent, with its times in days."""
        found = self.read(
            f"SELECT c.intent_id, c.attempt, {DAYS.format('settled_at')}, {DAYS.format('closed_at')}, "
            f"{DAYS.format('quiet_from')}, {UNPROVEN} "
            "FROM pending_charges AS c JOIN paycli_sends AS s USING (intent_id, operation, attempt) "
            "WHERE state = 'absent' GROUP BY c.intent_id, c.operation, c.attempt"
        )
        return [Absence((name, attempt), *days) for name, attempt, *days in found]

    def sends(self, intent_id: str) -> list[str]:
        """What the store says of the sends of an intent, for whoever must find out what happened."""
        found = self.read(
            "SELECT attempt, send_no, begun_at, ended_at, outcome, status FROM paycli_sends WHERE intent_id = :it "
            "ORDER BY 1, 2",
            it=intent_id,
        )
        return [
            f"attempt {attempt} send {number} begun {begun} ended {ended} {outcome} {status}"
            for attempt, number, begun, ended, outcome, status in found
        ]

    def read(self, statement: str, **values: object) -> list[tuple[Any, ...]]:
        with self._engine.connect() as connection:
            found = connection.execute(text(statement), values)
            return [tuple(row) for row in found] if found.returns_rows else []

    def close(self) -> None:
        self._engine.dispose()
