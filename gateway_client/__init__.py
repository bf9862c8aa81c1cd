"""Charge once: one idempotency key for each payment intent, on disk before the call, sent on every retry.

Everything a billing service needs is named here; what is not named here is not public.
"""

from gateway_client.async_client import AsyncClient
from gateway_client.charge import Charge
from gateway_client.client import Client
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
    NotSucceeded,
    OutcomeNotRecorded,
    ProviderUnavailable,
    RunHeld,
    StoreUnavailable,
    UnknownFinding,
    UnknownIntent,
    UsageError,
)
from gateway_client.gateways.stripe import Stripe
from gateway_client.intent import PaymentIntent
from gateway_client.money import Money
from gateway_client.retry import RetryPolicy
from gateway_client.sandbox import Sandbox
from gateway_client.schema import is_ours
from gateway_client.state import State
from gateway_client.worker import AsyncWorker, Worker

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
