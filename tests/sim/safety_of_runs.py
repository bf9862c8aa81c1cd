"""The safety checks S13 and S15 of FAULTS §2: who writes a nightly run, and what a complete one has listed."""

from __future__ import annotations

from typing import Any

from reconcile.effects import OfRun
from tests.sim.safety import Broken


def s15_scan_completeness(run_id: str, listed: set[str], there: set[str]) -> None:
    """A complete run has listed every object of its window that could be seen when its reading began."""
    missed = sorted(there - listed)
    if missed:
        raise Broken("S15", f"{run_id} is complete and has not listed {', '.join(missed)}")


def s13_a_run_is_written_by_its_holder(effect: OfRun[Any], store: Any) -> None:
    """Whoever has lost the lease of a run writes nothing more of it."""
    holders = store.read("SELECT leased_by FROM paycli_runs WHERE run_id = ?", effect.run.run_id)
    if holders != [(effect.run.lease.leased_by,)]:
        raise Broken("S13", f"{type(effect).__name__} of a run that {holders} has taken over")


# At the end ----------------------------------------------------------------------------------------------------------
