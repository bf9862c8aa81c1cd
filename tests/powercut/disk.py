"""A disk that forgets: from the log of `layer.c`, what a power cut at any moment may have left of a folder.

The model. What was written to a file is sure once that file was synced; until then each of its sectors of 512 bytes has
what it had at some moment since the last sync, and so has its length. A name that was made or taken away is sure once
the folder was synced; until then the changes of names survive up to some moment, in their order. A disk that says it
has synced has done so (F73 is not modelled), and nothing else is harmed.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

SECTOR_BYTES = 512
Image = dict[str, bytes]
"""The files of a folder."""


class Entry(NamedTuple):
    """A record of the log; `said` is what somebody outside the layer added, in order with the rest."""

    kind: str
    number: int
    name: str
    data: bytes


def entries(log: Path) -> Iterator[Entry]:
    """The log from its beginning; memory that processes share is no file of the disk."""
    whole = log.read_bytes()
    at = 0
    while at < len(whole):
        end = whole.index(b"\n", at)
        kind, number, size, name = whole[at:end].decode().split(" ", 3)
        at = end + 1 + int(size)
        if not name.endswith("-shm"):
            yield Entry(kind, int(number), name, whole[end + 1 : at])


@dataclass
class File:
    """A file: what is sure, what a running process sees, and every change in between."""

    sure: bytes = b""
    seen: bytearray = field(default_factory=bytearray)
    changes: list[tuple[int, bytes | None]] = field(default_factory=list)  # None: cut to that length

    def change(self, at: int, data: bytes | None) -> None:
        self.changes.append((at, data))
        apply(self.seen, at, data)

    def sync(self) -> None:
        self.sure, self.changes = bytes(self.seen), []

    def torn(self, chance: random.Random) -> bytes:
        """Each sector, and the length, as of a moment of its own."""
        if not self.changes:
            return self.sure
        moments: defaultdict[int, int] = defaultdict(lambda: chance.randint(0, len(self.changes)))
        left, length, length_at = bytearray(self.sure), len(self.sure), chance.randint(0, len(self.changes))
        for number, (at, data) in enumerate(self.changes):
            end = max(at, len(left)) if data is None else at + len(data)
            length = length if number >= length_at else at if data is None else max(length, end)
            for sector in range(at // SECTOR_BYTES, -(-end // SECTOR_BYTES)):
                if number < moments[sector]:
                    first, last = max(at, sector * SECTOR_BYTES), min(end, (sector + 1) * SECTOR_BYTES)
                    apply(left, first, bytes(last - first) if data is None else data[first - at : last - at])
        apply(left, length, None)
        return bytes(left)


def apply(content: bytearray, at: int, data: bytes | None) -> None:
    """Write, or cut to a length; what was never written is zero."""
    content.extend(bytes(max(at - len(content), 0)))
    if data is None:
        del content[at:]
    else:
        content[at : at + len(data)] = data


class Disk:
    """A folder, entry by entry of the log."""

    def __init__(self, prepared: Image) -> None:
        self._seen = {name: File(content, bytearray(content)) for name, content in prepared.items()}
        self._sure = dict(self._seen)
        self._names: list[tuple[str, File | None]] = []  # made, or taken away, since the folder was synced

    def play(self, entry: Entry) -> bool:
        """True when it was a change of the disk, or made one sure."""
        match entry.kind:
            case "C":
                self._name(entry.name, File())
            case "U":
                self._name(entry.name, None)
            case "W":
                self._seen[entry.name].change(entry.number, entry.data)
            case "T":
                self._seen[entry.name].change(entry.number, None)
            case "S":
                self._seen[entry.name].sync()
            case "D":
                self._sure, self._names = dict(self._seen), []
            case _:
                return False
        return True

    def _name(self, name: str, file: File | None) -> None:
        self._names.append((name, file))
        rename(self._seen, name, file)

    def whole(self) -> Image:
        """Nothing is lost: what running processes see, and what a kill leaves."""
        return {name: bytes(file.seen) for name, file in self._seen.items()}

    def bare(self) -> Image:
        """All is lost that was not sure."""
        return {name: file.sure for name, file in self._sure.items()}

    def named(self) -> Image:
        """The names are there, the content is not."""
        return {name: file.sure for name, file in self._seen.items()}

    def unnamed(self) -> Image:
        """The content is there, the names are not."""
        return {name: bytes(file.seen) for name, file in self._sure.items()}

    def corners(self) -> dict[str, Image]:
        """All, nothing, and one without the other."""
        return {"kept": self.whole(), "lost": self.bare(), "named": self.named(), "unnamed": self.unnamed()}

    def torn(self, chance: random.Random) -> Image:
        """Names up to some moment, and torn files."""
        names = dict(self._sure)
        for name, file in self._names[: chance.randint(0, len(self._names))]:
            rename(names, name, file)
        return {name: file.torn(chance) for name, file in names.items()}


def rename(names: dict[str, File], name: str, file: File | None) -> None:
    if file is None:
        names.pop(name, None)
    else:
        names[name] = file
