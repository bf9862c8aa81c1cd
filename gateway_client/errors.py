"""Every exception of the library. The type says whose fault it is; the outcome of a payment is never an exception.

    ChargeOnceError
    ├── UsageError              the caller's: nothing was written, nothing was sent          (exit 2)
    │   ├── InvalidInput        a field is unusable; `.field` names it (also a ValueError)
    │   ├── IntentConflict      the intent id is taken by another amount, currency, customer or payment method
    │   │   └── NewAttemptNeeded   the attempt was refused, and with another payment method: `.attempt` is to be named
    │   ├── AttemptRefused      attempt n+1 was asked for, but attempt n does not allow it
    │   ├── NotOffered          the gateway does not have that operation
    │   ├── NotPossible         the charge does not allow what is asked of it
    │   ├── UnknownIntent       no attempt of that intent is in the store (also a LookupError)
    │   └── UnknownFinding      no such finding is in the store (also a LookupError)
    ├── ConfigurationError      the operator's: a key, an account, a setting; rows stay as they were (exit 2)
    ├── NeedsPerson             an open finding about the intent: nothing was sent, somebody must look (exit 1)
    ├── NotNow                  could not finish; safe to run again                          (exit 3)
    │   ├── ProviderUnavailable the provider could not be asked
    │   ├── AccountRefused      the provider refuses the account, or one charge after the other: sending has stopped
    │   ├── RunHeld             another process is reconciling that window
    │   ├── DeliveryFailed      alerts did not arrive at their webhook (reconcile/webhook.py)
    │   ├── ClockRefused        our clock and the provider's disagree: sending would be guessing
    │   └── StoreUnavailable    the database is locked, read-only, full or corrupt: nothing was sent
    │       └── OutcomeNotRecorded  the provider answered and our database refused: run resume
    └── NotSucceeded            only from `Charge.raise_for_state()`, for those who prefer exceptions
        ├── ChargeRefused       declined, rejected, canceled or absent: final, not charged
        └── ChargePending       not known yet, or waiting for somebody: not failed

What a payment came to is a value (`Charge.state`). Nothing here builds messages from provider text or credentials.
"""

from __future__ import annotations

from typing import TypeVar


class ChargeOnceError(Exception):
    """The root: catch it to catch everything this library raises on purpose."""


class UsageError(ChargeOnceError):
    """The caller asked for something that cannot be done. Nothing was written and nothing was sent."""


class InvalidInput(UsageError, ValueError):
    """One field is unusable. The message begins with the field's name and never repeats a suspected secret."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem

    def __reduce__(self) -> tuple[type[InvalidInput], tuple[str, str]]:
        return type(self), (self.field, self.problem)


class IntentConflict(UsageError):
    """The intent id already stands for another payment (other amount, currency, customer or payment method)."""


class NewAttemptNeeded(IntentConflict):
    """That attempt was refused for good, and was made with another payment method than the one given now.

    `.attempt` is the number of the next one: `charge(intent, attempt=error.attempt)` tries the new one, once.
    """

    def __init__(self, message: str, attempt: int) -> None:
        super().__init__(message)
        self.attempt = attempt

    def __reduce__(self) -> tuple[type[NewAttemptNeeded], tuple[str, int]]:
        return type(self), (str(self), self.attempt)


class AttemptRefused(UsageError):
    """A new attempt was named, but the one before it is not refused for good, or is missing."""


class NotOffered(UsageError):
    """The gateway does not have that operation."""


class NotPossible(UsageError):
    """The charge does not allow what is asked of it: it has not succeeded, or not so much is left of it."""


class UnknownIntent(UsageError, LookupError):
    """No attempt of that intent is in the store."""


class UnknownFinding(UsageError, LookupError):
    """No finding has that id."""


class ConfigurationError(ChargeOnceError):
    """A setting is missing, wrong, or belongs to another account or mode. Rows stay as they were."""


class NeedsPerson(ChargeOnceError):
    """Evidence contradicts our record of the intent: an open finding stops every further send of it."""


class NotNow(ChargeOnceError):
    """It could not be finished this time. Running the same call again is safe."""


class ProviderUnavailable(NotNow):
    """The provider could not be asked. "Could not ask" is never "does not exist"."""


class AccountRefused(NotNow):
    """The provider refuses what is about no single charge. Sending has stopped; rows stay as they were."""


class RunHeld(NotNow):
    """Another process works on the reconciliation of that window, or has taken ours over. The message says who."""


class ClockRefused(NotNow):
    """Our clock is too far from the provider's, or behind a time this store has already seen. Nothing was sent."""


class StoreUnavailable(NotNow):
    """The database cannot promise durability right now. Nothing was sent. `.why` is the cause, in words."""

    def __init__(self, why: str, then: str = "Nothing more was sent; trying again is safe.") -> None:
        super().__init__(f"{why}. {then}")
        self.why = why
        self.then = then

    def __reduce__(self) -> tuple[type[StoreUnavailable], tuple[str, str]]:
        return type(self), (self.why, self.then)


class OutcomeNotRecorded(StoreUnavailable):
    """The provider answered, our database refused to record it. The row is resumable; nothing is lost."""


class NotSucceeded(ChargeOnceError):
    """Raised by `Charge.raise_for_state()` only."""


class ChargeRefused(NotSucceeded):
    """The attempt is final and no money moved by it."""


class ChargePending(NotSucceeded):
    """The attempt is not final. It has not failed: `resume` or the nightly run finishes it."""


E = TypeVar("E", bound=ChargeOnceError)


def without_frames(error: E) -> E:
    """The error without the frames and errors below it: their variables held a key, and crash reporters send those."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)
