"""Which store functions meet which in which scene: all pairs of a scene's list, and the triples of its first line."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations_with_replacement

from tests.stepper.acts import ACTS

_WHO: dict[str, tuple[str, str]] = {
    # scene: (those of the triples, the others of the pairs)
    "empty": ("bind | bind another | read binding", "claim | give up | begin | open run"),
    "nothing": (
        "claim | claim and send | A: import | B: import | A: import 2 | A: flag",
        "claim 2 | begin | give up | settle: paid | lease | B: flag | A: import declined | A: repair: paid"
        " | prepare | bind another | open run | open run, other | A: close over | A: save page | read pending"
        " | alerts told | alerts told, other | read beginning",
    ),
    "prepared": (
        "claim and send | begin | give up | A: flag | A: import 2 | A: repair: paid | settle: paid",
        "claim | begin, leased | lease, other | release | set aside | B: flag | B: import 2, declined | prove absent"
        " | A: flag stale | A: close over | A: repair: absent | found: processing | close finding | end late"
        " | prepare | lease | count waiting | read pending",
    ),
    "sending": (
        "begin | settle: paid | settle: not sent | give up | A: repair: paid | A: flag | found: declined",
        "claim | settle: declined | settle: rejected | settle: unclear | settle: conflict | found: canceled | lease"
        " | B: repair: paid again | A: repair: conflict | A: import 2 | A: flag stale | B: flag | prove absent"
        " | A: close over | A: repair: processing",
    ),
    "unknown": (
        "begin | settle 2: paid | settle 2: rejected | give up | A: repair: paid | A: flag",
        "settle: paid | settle 2: not sent | found: paid again | found: processing | lease | lease, other | claim 2"
        " | A: repair: conflict | B: repair: paid again | A: import 2 | prove absent | note quiet | begin, leased",
    ),
    "closed": (
        "begin | settle: not sent | note quiet | prove absent | A: repair: paid | A: flag",
        "give up | settle: paid | settle: unclear | A: repair: absent | found: canceled | claim 2 and send | lease"
        " | A: import 2 | A: close over | B: flag | B: repair: paid again",
    ),
    "quiet": (
        "begin | settle: paid | prove absent | A: repair: absent | claim 2 and send | A: import 2",
        "give up | settle: not sent | note quiet | A: repair: paid | found: declined | A: flag | lease",
    ),
    "declined": (
        "claim 2 | claim 2 and send | A: import 2 | A: import 3 | A: repair: paid | A: flag",
        "claim 2, other card | found: paid again | found: declined | B: import 2, declined | B: flag | begin | begin 2"
        " | A: flag duplicates | give up | claim | settle: paid | close finding",
    ),
    "conflict": (
        "found: paid | A: repair: paid | A: flag | close finding | give up | B: flag, other words",
        "found: declined | close finding, other | B: flag | prove absent | begin | claim | A: close stale | lease"
        " | A: repair: conflict | settle: paid | B: repair: paid again",
    ),
    "succeeded": (
        "found: paid again | found: declined | A: flag | B: repair: paid again | claim | close finding"
        " | tip | tip other",
        "A: flag missing | A: flag duplicates | A: adopt | A: repair: processing | claim 2 | give up | begin"
        " | A: end run | A: read pairs | A: import 2 | settle: paid | close finding, other | A: save page that agrees"
        " | A: read unseen | A: read unseen, others | A: count | A: read result | tip, named as the order | lease",
    ),
    "finding closed": (
        "begin | A: flag | B: flag, other words | settle: paid | close finding | give up",
        "B: flag | A: repair: conflict | A: repair: paid | claim | close finding, other | found: canceled",
    ),
    "key over": (
        "begin | settle: paid | give up | A: close over | A: repair: paid | end late",
        "B: close over | lease | lease, other | found: declined | A: flag stale | prove absent | note quiet"
        " | begin other | claim | A: flag",
    ),
    "late": (
        "begin | end late | A: close over | give up | claim late and send | A: flag",
        "B: close over | lease | claim late | A: flag stale | claim 2 and send | A: import 2 | settle: paid",
    ),
    "stale": (
        "begin | found: paid | A: flag stale | B: close stale | close stale finding | give up",
        "B: flag stale | A: close stale | A: repair: paid | settle: unclear | lease | A: flag | claim",
    ),
    "stale, closed": (
        "found: paid | A: flag stale | B: flag stale | A: close stale | begin",
        "give up | A: repair: paid | A: flag | close stale finding",
    ),
    "two intents": (
        "lease | lease, other | release both | A: close over | begin | begin other",
        "set both aside | release | set aside | claim other | give up | A: flag stale | B: close over | A: flag"
        " | begin, leased",
    ),
    "two sends": (
        "group: settle | group: begin, turned",
        "group: settle, turned | group: begin | group: give up, settle | group: claim, give up | begin | settle: paid"
        " | give up other | settle other: paid | A: flag | A: close over | lease",
    ),
    "run over": (
        "open run | open run, other | A: renew | A: save page | A: end run | A: let go",
        "A: save page again | A: save page that agrees | A: keep item | A: adopt | A: read pairs | A: flag"
        " | A: repair: paid | A: flag stale | A: flag duplicates | A: import | A: close over | A: count"
        " | A: read unfinished | A: read unseen | B: forget runs",
    ),
}


@dataclass(frozen=True)
class Case:
    """Some functions that begin at one moment, in a scene."""

    scene: str
    acts: tuple[str, ...]
    leases: bool = True

    def __str__(self) -> str:
        return f"{self.scene}{'' if self.leases else ', leases off'}: {' ‖ '.join(self.acts)}"


def _listed(words: str) -> list[str]:
    names = [name.strip() for name in words.split("|")]
    assert all(name in ACTS for name in names), [name for name in names if name not in ACTS]
    return names


def pairs(scene: str) -> Iterator[Case]:
    """Each function of a scene with each, and with itself."""
    first, others = _WHO[scene]
    for both in combinations_with_replacement((*_listed(first), *_listed(others)), 2):
        yield Case(scene, both)


def pairs_without_leases(scene: str) -> Iterator[Case]:
    """The same where whoever has a lease has it for nothing, nobody looks at it, and every run is anybody's."""
    return (replace(case, leases=False) for case in pairs(scene))


def triples(scene: str) -> Iterator[Case]:
    """Three of those that a scene is about."""
    for three in combinations_with_replacement(_listed(_WHO[scene][0]), 3):
        yield Case(scene, three)


def other_triples(scenes: Sequence[str], count: int, seed: int) -> list[Case]:
    """Some triples of all that are listed, by chance: there are too many of them."""
    chance = random.Random(seed)
    all_of = {scene: [name for words in _WHO[scene] for name in _listed(words)] for scene in scenes}
    first = {scene: set(_listed(_WHO[scene][0])) for scene in scenes}
    found: dict[Case, None] = {}
    while len(found) < count:
        scene = chance.choice(scenes)
        three = tuple(sorted(chance.choices(all_of[scene], k=3), key=all_of[scene].index))
        if not first[scene].issuperset(three):
            found[Case(scene, three)] = None
    return list(found)


def listed() -> set[str]:
    """The names of all functions that some scene has."""
    return {name for both in _WHO.values() for words in both for name in _listed(words)}


SCENES = tuple(_WHO)
