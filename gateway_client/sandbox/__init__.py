"""A Stripe-style provider to test against: a ledger, a clock and faults; in process or on a loopback port.

For tests and demonstrations only: it moves no money, and nothing of the library depends on it.
"""

from gateway_client.sandbox.boxes import BoxAnswer
from gateway_client.sandbox.clock import SandboxClock
from gateway_client.sandbox.faults import FAULT_KINDS, FAULTS, FaultKind
from gateway_client.sandbox.model import Exchange
from gateway_client.sandbox.sandbox import Sandbox
from gateway_client.sandbox.wire import Answer, Cut, Lost, Recorded, Reply, Request

__all__ = [
    "FAULTS",
    "FAULT_KINDS",
    "Answer",
    "BoxAnswer",
    "Cut",
    "Exchange",
    "FaultKind",
    "Lost",
    "Recorded",
    "Reply",
    "Request",
    "Sandbox",
    "SandboxClock",
]
