"""Every cut of a recording, each judged in a folder of its own: what several processes share."""

from __future__ import annotations

import hashlib
import json
import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from gateway_client.sandbox.wire import Request
from tests.nightly_stage import folder
from tests.powercut.child import STORE
from tests.powercut.disk import Disk, Image
from tests.powercut.judge import Judge, Known, Verdict, judge_of, put
from tests.powercut.recording import Recording

TORN = 2
"""Torn disks for each moment, beside the four corners."""


class Cut(NamedTuple):
    """What a cut came to: after which entry of the log it was, and what survived it of the unsynced changes."""

    moment: int
    survived: str
    verdict: Verdict


def judged(recording: Recording, share: int, shares: int, only: str) -> list[Cut]:
    """One share of all cuts that differ, or of those whose name begins so."""
    found: list[Cut] = []
    seen: set[bytes] = set()
    with folder() as where:
        (where / "disk").mkdir()
        judge = judge_of(recording, where / "disk" / STORE)
        for moment, survived, image, known in cuts(recording):
            mark = digest(image, known)
            if mark in seen or mark[0] % shares != share or not f"{moment}:{survived}:".startswith(only):
                continue
            seen.add(mark)
            found.append(Cut(moment, survived, verdict_of(judge, put(image, where / "disk"), known)))
    return found


def cuts(recording: Recording) -> Iterator[tuple[int, str, Image, Known]]:
    """What may be left after each entry of the log, and what others knew by then."""
    disk, known = Disk(recording.prepared), Known((), ())
    for moment, entry in enumerate(recording.entries, 1):
        disk.play(entry)
        if entry.kind == "P":
            method, target, headers, body = json.loads(entry.data)
            known = known._replace(passed=(*known.passed, Request(method, target, headers, body.encode())))
        elif entry.kind == "A":
            known = known._replace(told=(*known.told, json.loads(entry.data)))
        for survived, image in disk.corners().items():
            yield moment, survived, image, known
        for number in range(1, TORN + 1):
            chance = random.Random(f"{recording.work}:{moment}:{number}")
            yield moment, f"torn{number}", disk.torn(chance), known


def digest(image: Image, known: Known) -> bytes:
    """Cuts with the same one are the same."""
    mark = hashlib.sha256(f"{len(known.passed)} {len(known.told)}".encode())
    for name, content in sorted(image.items()):
        mark.update(f"{name} {len(content)}\n".encode() + content)
    return mark.digest()


def verdict_of(judge: Judge, path: Path, known: Known) -> Verdict:
    acknowledged = len(known.passed) + len(known.told)
    try:
        return judge.look(path, known)
    except sqlite3.DatabaseError as error:  # a file that cannot be read has lost all that was acknowledged
        return Verdict(acknowledged, (f"everything: {error}",) * acknowledged, (f"the file: {error}",))
    except Exception as problem:  # whatever it is, the other cuts are judged as well
        return Verdict(acknowledged, (), (f"{type(problem).__name__}: {problem}",))
