"""Charge once: one idempotency key for each payment intent, on disk before the call, sent on every retry.

Everything a billing service needs is named here; what is not named here is not public. Each name is imported when it is
first asked for: who reads a store does not wait for an HTTP client, and nobody for the sandbox.
"""

import logging
from typing import TYPE_CHECKING

from gateway_client.errors import (
    AccountRefused,
    AttemptRefused,
    ChargeOnceError,
    ChargePending,
    ChargeRefused,
    ClockRefused,
    ConfigurationError,
    IntentConflict,
    InvalidInput,
    NeedsPerson,
    NewAttemptNeeded,
    NotNow,
    NotOffered,
    NotPossible,
    NotSucceeded,
    OutcomeNotRecorded,
    ProviderUnavailable,
    RunHeld,
    StoreUnavailable,
    UnknownFinding,
    UnknownIntent,
    UsageError,
)

if TYPE_CHECKING:
    from gateway_client.async_client import AsyncClient
    from gateway_client.charge import Charge
    from gateway_client.client import Client
    from gateway_client.gateways.stripe import Stripe
    from gateway_client.intent import PaymentIntent
    from gateway_client.money import Money
    from gateway_client.retry import RetryPolicy
    from gateway_client.sandbox import Sandbox
    from gateway_client.schema import is_ours
    from gateway_client.state import State
    from gateway_client.worker import AsyncWorker, Worker
else:  # type checkers do not see it, and go on telling of names that are misspelled
    from gateway_client.on_demand import on_demand

    __getattr__, __dir__ = on_demand(
        __name__,
        {
            "AsyncClient": "gateway_client.async_client",
            "AsyncWorker": "gateway_client.worker",
            "Charge": "gateway_client.charge",
            "Client": "gateway_client.client",
            "Money": "gateway_client.money",
            "PaymentIntent": "gateway_client.intent",
            "RetryPolicy": "gateway_client.retry",
            "Sandbox": "gateway_client.sandbox",
            "State": "gateway_client.state",
            "Stripe": "gateway_client.gateways.stripe",
            "Worker": "gateway_client.worker",
            "is_ours": "gateway_client.schema",
        },
    )

__all__ = [
    "AccountRefused",
    "AsyncClient",
    "AsyncWorker",
    "AttemptRefused",
    "Charge",
    "ChargeOnceError",
    "ChargePending",
    "ChargeRefused",
    "Client",
    "ClockRefused",
    "ConfigurationError",
    "IntentConflict",
    "InvalidInput",
    "Money",
    "NeedsPerson",
    "NewAttemptNeeded",
    "NotNow",
    "NotOffered",
    "NotPossible",
    "NotSucceeded",
    "OutcomeNotRecorded",
    "PaymentIntent",
    "ProviderUnavailable",
    "RetryPolicy",
    "RunHeld",
    "Sandbox",
    "State",
    "StoreUnavailable",
    "Stripe",
    "UnknownFinding",
    "UnknownIntent",
    "UsageError",
    "Worker",
    "is_ours",
]

logging.getLogger(__name__).addHandler(logging.NullHandler())  # what is told is for whoever asks for it
