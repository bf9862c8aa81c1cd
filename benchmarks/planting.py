"""Plan the charges of a night and of a backlog: the rule that `provider.c` follows, too, so that both sides agree."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from benchmarks import inside
from benchmarks.inside import Fact
from benchmarks.provider import Night

DAY_S = 86400


@dataclass(frozen=True, slots=True)
class Plan:
    """Describe the charges of one day: number k of `count` is made k/count through it."""

    count: int
    start: datetime
    keys: Path

    @property
    def day(self) -> date:
        """Return the day, in UTC."""
        return self.start.date()

    @property
    def night(self) -> Night:
        """Return what the provider is told."""
        return Night(self.count, int(self.start.timestamp()), self.keys)

    def facts(self, shift: timedelta = timedelta(0)) -> Iterator[Fact]:
        """Yield the charges, oldest first; `shift` moves them to another day."""
        with self.keys.open(encoding="ascii") as keys:
            for number, key in enumerate(keys):
                yield Fact(
                    name=name_of(number),
                    key=key.rstrip("\n"),
                    intent_id=f"pi_bench{number:014}",
                    charge_id=f"ch_bench{number:014}",
                    amount=amount_of(number),
                    created=self.start + shift + timedelta(seconds=number * DAY_S // self.count),
                )


def plan_night(folder: Path, count: int) -> Plan:
    """Write the keys of yesterday's charges into a file of a folder, and return their plan."""
    keys = folder / f"keys-{count}.txt"
    with keys.open("w", encoding="ascii") as file:
        file.writelines(f"{inside.key_of(name_of(number))}\n" for number in range(count))
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return Plan(count, midnight - timedelta(days=1), keys)


def backlog(count: int) -> Callable[[], Iterator[Fact]]:
    """Return the facts of charges that were prepared just now and never sent."""
    begun = datetime.now(UTC)

    def facts() -> Iterator[Fact]:
        for number in range(count):
            name = f"backlog_{number:07}"
            yield Fact(name, inside.key_of(name), "", "", amount_of(number), begun + timedelta(microseconds=number))

    return facts


def name_of(number: int) -> str:
    """Return the intent of a charge of the night."""
    return f"night_{number:07}"


def amount_of(number: int) -> int:
    """Return the amount of a charge of the night, in cents."""
    return 1000 + number % 9000
