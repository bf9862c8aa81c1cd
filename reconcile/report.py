"""What a run came to: figures and findings, for programs as JSON, and whether any of it is news. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from gateway_client.charge import iso
from gateway_client.finding import Finding


@dataclass(frozen=True, slots=True)
class RunResult:
    """One reconciliation. Times are aware, UTC; the window is half-open, in the provider's time."""

    run_id: str
    day: str
    tz: str
    window_start: datetime
    window_end: datetime
    started_at: datetime
    complete: bool
    why_incomplete: str | None  # None when everything was read
    dry_run: bool
    provider_charges: int  # listed in the window: matched, with a finding, or foreign
    local_charges: int  # rows of ours that the window is about, when the run began
    matched: int  # agree with our row as it was
    repaired: int
    flagged: int  # open, found or found again by this run
    foreign: int  # not ours: counted, never touched
    open_findings: int  # of any run: a person must look
    news: int  # findings repaired, first found, found open again, or found to be over by this run
    findings: tuple[Finding, ...]
    unreadable: int = 0  # listed objects that could not be read: in no other figure
    unreadable_ids: tuple[str, ...] = ()  # of ten of them, those first that may be ours

    def as_json(self) -> dict[str, object]:
        """The fields that programs may rely on, in their order."""
        return {
            "run_id": self.run_id,
            "window_start": iso(self.window_start),
            "window_end": iso(self.window_end),
            "complete": self.complete,
            "dry_run": self.dry_run,
            "provider_charges": self.provider_charges,
            "local_charges": self.local_charges,
            "matched": self.matched,
            "repaired": self.repaired,
            "flagged": self.flagged,
            "foreign": self.foreign,
            "findings": [finding.as_json() for finding in self.findings],
            "why_incomplete": self.why_incomplete,
            "news": self.news,
            "open_findings": self.open_findings,
            "unreadable": self.unreadable,
            "unreadable_ids": list(self.unreadable_ids),
        }
