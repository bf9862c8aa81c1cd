"""The idempotency layer: which keys are taken, by what, and the first answer of each.

Which answers are worth saving is decided by the caller.
"""

import enum
from dataclasses import dataclass
from typing import TypeAlias

from gateway_client.sandbox.behaviour import Behaviour
from gateway_client.sandbox.wire import Reply

KEY_CHARACTERS_MAX = 255


class Claim(enum.Enum):
    """What became of asking for a key, when there is no saved answer."""

    TAKEN = enum.auto()  # by this request: it executes, then saves or releases
    IN_USE = enum.auto()
    MISMATCH = enum.auto()


@dataclass(frozen=True)
class Saved:
    """The first answer under a key, without what differs from one sending to the next."""

    reply: Reply


KeyState: TypeAlias = Claim | Saved


@dataclass
class _Entry:
    fingerprint: str
    first_at: float
    saved: Saved | None = None


class Keys:
    """The keys of one account. Not thread-safe: its owner holds a lock."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self._entries: dict[str, _Entry] = {}

    def claim(self, key: str, fingerprint: str, now: float) -> KeyState:
        """Takes a free key, or says why not. A key in use is never pruned (FAULTS.md F177)."""
        entry = self._entries.get(key)
        if entry is not None and entry.saved is not None and now - entry.first_at >= self._behaviour.key_life_s:
            entry = None
        if entry is None:
            self._entries[key] = _Entry(fingerprint, now)
            return Claim.TAKEN
        if entry.fingerprint != fingerprint:
            return Claim.MISMATCH
        return entry.saved or Claim.IN_USE

    def save(self, key: str, saved: Saved) -> None:
        self._entries[key].saved = saved

    def release(self, key: str) -> None:
        """As if the key had never been seen: its request was refused before it was executed."""
        del self._entries[key]
