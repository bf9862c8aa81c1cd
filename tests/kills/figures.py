"""What a campaign came to, as plain text: who was ended where, and what became of the money."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import count

from tests.kills.plan import POINTS_OF
from tests.kills.play import Result

KINDS = tuple(POINTS_OF)
SOMETIMES = ("killed in a race", "met a fault", "not now", "second attempts", "absent", "recovered")

POINTS = {
    "p1": "before the row's commit",
    "p1_send": "before the commit of the row with its first send",
    "p2": "row on disk, before the send's commit",
    "p3": "send on disk, before its first byte",
    "p3_claim": "row and first send on disk, before its first byte",
    "p4": "in the midst of the request",
    "p5": "request sent, before the answer",
    "p6": "answered, before anything is recorded",
    "p6_commit": "before the outcome's commit",
    "p7": "outcome on disk, before the caller knows",
    "commit": "before its n-th commit, whatever that is",
    "committed": "after its n-th commit",
    "asking": "before its n-th request to the provider",
    "writing": "in the midst of it",
    "asked": "before the answer to it",
    "answered": "after the answer to it",
    "arrived": "when its n-th request arrives at the provider",
    "moment": "at a random moment",
}


class Tally:
    """The sum of many batches."""

    def __init__(self) -> None:
        self.ended: list[tuple[str, str, int, bool]] = []
        self.figures: Counter[str] = Counter()

    def add(self, result: Result) -> None:
        self.ended += result["ended"]
        self.figures.update(result["figures"])

    @property
    def kills(self) -> int:
        """Processes that died by SIGKILL, and of no other cause."""
        return len(self.ended)

    def missed(self) -> list[str]:
        """What so many kills should have reached at least once, and have not: then they prove less than they say."""
        reached = {(kind, at) for kind, at, *_ in self.ended}
        every = [(kind, at) for kind, of in POINTS_OF.items() for at in of if kind != "crowd"]
        points = [f"{kind} {at}" for kind, at in every if (kind, at) not in reached]
        if "crowd" not in {kind for kind, _ in reached}:  # of a few dozen which points they die at is chance
            points.append("crowd")
        return points + [name for name in SOMETIMES if not self.figures[name]]

    def lines(self, seconds: float, cpu_s: float) -> Iterator[str]:
        """The figures, to be printed."""
        yield _row("ended by SIGKILL", (*KINDS, "all"))
        for point, meaning in POINTS.items():
            yield self._row(f"{point:<11}{meaning}", Counter(kind for kind, at, *_ in self.ended if at == point))
        yield self._row("together", Counter(kind for kind, *_ in self.ended))
        yield ""
        yield f"a reconciler's commits   {self._reached(('commit', 'committed'))}"
        yield f"a reconciler's requests  {self._reached(('asking', 'writing', 'asked', 'answered'))}"
        yield ""
        figures = self.figures
        yield _figure("processes ended", self.kills, f"in {seconds:.0f} s, {self.kills / seconds:.1f} a second")
        yield _figure("  processor", round(cpu_s), f"seconds of it, {cpu_s / max(self.kills, 1):.3f} for each")
        yield _figure("  while racing", figures["killed in a race"], "two clients, a worker and reconcilers at once")
        fresh = len([one for one in self.ended if one[3]])
        yield _figure("  fresh", fresh, "of `paycli`; the others are forks of a warm parent")
        yield _figure("not counted", figures["ended before they were killed"], "they had ended before their kill")
        yield _figure("not now", figures["not now"], "calls that the provider or another run held off")
        yield _figure("batches", figures["batches"], "a store and a provider each")
        yield _figure("requests", figures["requests"], f"{figures['met a fault']} of them met a fault")
        yield _figure("sends", figures["sends"], "of charges")
        yield _figure("intents", figures["intents"], f"with {figures['second attempts']} second attempts")
        yield _figure("acknowledged", figures["acknowledged"], "attempts that a caller was told of")
        yield _figure("charged", figures["charged"], f"{figures['absent']} attempts proven absent")
        yield _figure("recovered", figures["recovered"], "by a nightly run, before anybody else")
        yield _figure("doubles", figures["doubles"], "intents charged more than once")
        yield _figure("lost", figures["lost"], "acknowledged or charged, and not on disk")

    def _row(self, name: str, counts: Counter[str]) -> str:
        return _row(name, [str(counts[kind] or "-") for kind in KINDS] + [str(counts.total() or "-")])

    def _reached(self, points: tuple[str, ...]) -> str:
        """At which numbers a reconciler died."""
        reached = {nth for kind, at, nth, _ in self.ended if kind == "reconciler" and at in points}
        every = next(number for number in count() if number + 1 not in reached)
        return f"each from 1 to {every}, the highest {max(reached, default=0)}"


def _row(name: str, cells: Sequence[str]) -> str:
    return f"{name:<55}" + "".join(f"{cell:>11}" for cell in cells)


def _figure(name: str, number: int, note: str) -> str:
    return f"{name:<18}{number:>8}  {note}"
