"""Operations: what must happen exactly once. A charge takes money; each of the others acts upon a charge. Pure.

An operation is its law (`state.py`), its rules of evidence (`evidence.py`) and, upon a charge, a precondition. Its
identity is (operation, intent_id, attempt), and so is its idempotency key; the intent id is the caller's reference.
How it is requested and read is the gateway's (`Offered`), who performs what the store's, the same for all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gateway_client.charge import Charge
from gateway_client.errors import InvalidInput
from gateway_client.evidence import RULES_OF, Rule
from gateway_client.intent import check_intent_id
from gateway_client.money import Money
from gateway_client.state import CHARGE, LAWS, Law


@dataclass(frozen=True, slots=True)
class Upon:
    """The decision to act upon a charge, once: `Upon("refund_77", "order_42", Money(500, "usd"))`.

    - `intent_id`: your stable reference of this act; `parent_id`: the intent of the charge; `amount`: how much of it.

    Raises InvalidInput, which names the field.
    """

    intent_id: str
    parent_id: str
    amount: Money

    def __post_init__(self) -> None:
        check_intent_id(self.intent_id)
        check_intent_id(self.parent_id)
        if not isinstance(self.amount, Money):
            raise InvalidInput("amount", f'must be Money, such as Money(500, "usd"), not {type(self.amount).__name__}')


@dataclass(frozen=True, slots=True)
class Payment:
    """A charge and all that acts upon it, as they are under the lock of its intent."""

    charges: tuple[Charge, ...]  # every attempt at the charge
    acts: tuple[Charge, ...]  # every attempt of every operation upon it


Precondition = Callable[[Upon, Payment], "Charge | str"]
"""The charge that may be acted upon, or why none may be, in words for a person."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One kind of what must happen exactly once."""

    law: Law
    rules: tuple[Rule, ...]
    precondition: Precondition

    @property
    def name(self) -> str:
        """What it is called in rows and keys."""
        return self.law.operation


UPON_A_CHARGE: dict[str, Operation] = {}
"""The operations that act upon a charge, by name."""


def register(operation: Operation) -> None:
    """Make an operation known: its law and rules are found by its name from now on."""
    assert operation.name != CHARGE, "a charge acts upon nothing"
    UPON_A_CHARGE[operation.name] = operation
    LAWS[operation.name], RULES_OF[operation.name] = operation.law, operation.rules
