"""A look at a store from outside, which leaves it as it is: no journal is checkpointed, no lock is held."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from tests.kills.judge import UNPROVEN, Absence, Attempt, Finding, Row

DAY = timedelta(days=1)


class Store:
    """The file of a batch, which may not exist yet."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def remove(self) -> None:
        for beside in ("", "-wal", "-shm", "-journal"):
            self.path.with_name(self.path.name + beside).unlink(missing_ok=True)

    def outlive_the_leases(self) -> None:
        """Let every lease of a run end, as if a minute had passed; by a process that ends as a killed one does."""
        if not self.read("SELECT 1 FROM sqlite_master WHERE name = 'paycli_runs'"):
            return
        statement = "UPDATE paycli_runs SET leased_until = '2000-01-01 00:00:00.000000'"
        script = (
            f"import os, sqlite3; sqlite3.connect({str(self.path)!r}, 5, isolation_level=None).execute({statement!r})"
        )
        subprocess.run([sys.executable, "-S", "-c", f"{script}; os._exit(0)"], check=True, timeout=60)

    def keep(self, path: Path) -> None:
        """A copy for whoever looks at it later."""
        if self.path.exists():
            with closing(sqlite3.connect(self.path)) as ours, closing(sqlite3.connect(path)) as copy:
                ours.backup(copy)

    def rows(self) -> dict[Attempt, Row]:
        found = self.read("SELECT intent_id, attempt, state, provider_charge_id, idempotency_key FROM pending_charges")
        return {(name, attempt): Row(state, charge_id, key) for name, attempt, state, charge_id, key in found}

    def sent(self, key: str) -> tuple[str, str | None, int] | None:
        """The body of a key, when it was first sent, and how many sends of it have begun."""
        found = self.read(
            "SELECT body, first_sent_at, (SELECT count(*) FROM paycli_sends AS s WHERE s.intent_id = c.intent_id "
            "AND s.attempt = c.attempt) FROM pending_charges AS c WHERE idempotency_key = ?",
            key,
        )
        return found[0] if found else None

    def findings(self) -> list[Finding]:
        found = self.read("SELECT id, code, intent_id, closed_at IS NULL FROM paycli_findings")
        return [Finding(one, code, name, bool(is_open)) for one, code, name, is_open in found]

    def absences(self) -> list[Absence]:
        """Every row that is proven absent, with its times in days."""
        found = self.read(
            "SELECT c.intent_id, c.attempt, julianday(settled_at), julianday(closed_at), julianday(quiet_from), "
            f"{UNPROVEN} "
            "FROM pending_charges AS c JOIN paycli_sends AS s USING (intent_id, operation, attempt) "
            "WHERE state = 'absent' GROUP BY c.intent_id, c.operation, c.attempt"
        )
        return [Absence((name, attempt), *days) for name, attempt, *days in found]

    def recovered(self) -> set[Attempt]:
        """What a run says it has repaired."""
        return set(self.read("SELECT intent_id, attempt FROM paycli_findings WHERE code = 'outcome_recovered'"))

    def findings_in_history(self) -> set[str]:
        return {
            event.split()[1] for (event,) in self.read("SELECT event FROM paycli_events WHERE event LIKE 'finding %'")
        }

    def findings_in_runs(self) -> set[str]:
        return {one for (one,) in self.read("SELECT finding_id FROM paycli_run_findings")}

    def history(self) -> list[tuple[str, int, int, str | None, str]]:
        """Of every attempt: what happened, in its order."""
        columns = "intent_id, attempt, event_no, state_before, state_after"
        return [
            (name, attempt, number, before, after)
            for name, attempt, number, before, after in self.read(
                f"SELECT {columns} FROM paycli_events ORDER BY intent_id, attempt, event_no"
            )
        ]

    def whole_runs(self) -> list[tuple[str, str]]:
        """The run that was begun last, and its day, if it is complete and the day was over when it began.

        It is the one whose list is kept: each run forgets those of the ended runs before it.
        """
        found = self.read(
            "SELECT run_id, day, window_start, window_end, started_at FROM paycli_runs "
            "WHERE complete AND started_at = (SELECT max(started_at) FROM paycli_runs)"
        )
        whole = []
        for run_id, day, start, end, started in found:
            first, last = datetime.fromisoformat(start), datetime.fromisoformat(end)
            if last - first == DAY and last <= datetime.fromisoformat(started):
                whole.append((run_id, day))
        return whole

    def listed(self) -> dict[str, set[str]]:
        """What each run has listed; a run forgets what those before it have."""
        found: dict[str, set[str]] = {}
        listed = (
            "SELECT run_id, object_id FROM paycli_run_items WHERE in_window "
            "UNION ALL SELECT run_id, object_id FROM paycli_run_agreed"
        )
        for run_id, object_id in self.read(listed):
            found.setdefault(run_id, set()).add(object_id)
        return found

    def sound(self) -> list[tuple[Any, ...]]:
        """What SQLite says of the file."""
        return self.read("PRAGMA integrity_check")

    def read(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Nothing of a store that is not there, or that has no tables yet."""
        if not self.path.exists():
            return []
        for mode in ("ro", "rw"):
            try:
                with closing(sqlite3.connect(f"file:{self.path}?mode={mode}", uri=True, timeout=10)) as connection:
                    return connection.execute(statement, values).fetchall()
            except sqlite3.OperationalError as problem:
                if "no such table" in str(problem):
                    return []
                # Who made the store was ended in the midst of it: whoever comes next rolls that back, here we do.
                if mode == "rw" or "readonly" not in str(problem):
                    raise
        raise AssertionError("one of the two modes has answered")
