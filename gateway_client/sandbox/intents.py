"""The life of payment intents and their charges: create, confirm, cancel, and bank debits that settle later.

Every operation is prepared first, which refuses without a trace, and then performed, which changes the ledger. Reading
and listing live in `provider.py`; idempotency in `keys.py`.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from gateway_client.sandbox import objects
from gateway_client.sandbox.behaviour import Behaviour
from gateway_client.sandbox.clock import Agenda
from gateway_client.sandbox.form import Form
from gateway_client.sandbox.methods import (
    AUTHENTICATION_NOT_HANDLED,
    AUTHENTICATION_REQUIRED,
    TEST_METHODS,
    Decline,
    PaymentMethod,
)
from gateway_client.sandbox.names import name
from gateway_client.sandbox.parameters import ConfirmParameters, CreateParameters, cancellation_reason
from gateway_client.sandbox.refusal import Refusal, card_error, invalid, missing_object, unexpected_state
from gateway_client.sandbox.shelf import Shelf
from gateway_client.sandbox.wire import Json

Step: TypeAlias = Callable[[str, float], Json]
"""Performs a prepared operation: (what its ids are derived from, now) -> the object. A decline is a `Refusal`."""

BALANCE_TRANSACTION_AFTER_S = 60
"""Stripe captures asynchronously by default: `balance_transaction` is null for a while (STRIPE.md §4)."""

CONFIRMABLE = ("requires_payment_method", "requires_confirmation", "requires_action")
CANCELABLE = ("requires_payment_method", "requires_capture", *CONFIRMABLE[1:], "processing")


@dataclass(frozen=True)
class _Method:
    """A payment method of the ledger: using a test id makes a new one with an id of its own, as Stripe does."""

    id: str
    behaviour: PaymentMethod


class Intents:
    """The ledger of one account. Not thread-safe: its owner holds a lock. `seed` is what its ids are derived from."""

    def __init__(self, seed: int | str, agenda: Agenda, behaviour: Behaviour) -> None:
        self._seed = seed
        self._behaviour = behaviour
        self._agenda = agenda
        self._methods: dict[str, _Method] = {}
        self._tries: Counter[str] = Counter()
        self.intents = Shelf("payment_intent")
        self.charges = Shelf("charge")

    def intent(self, intent_id: str) -> Json:
        found = self.intents.get(intent_id)
        if found is None:
            raise missing_object("payment_intent", intent_id, param="intent", status=404)
        return found

    def create(self, form: Form) -> Step:
        asked = CreateParameters.read(form)
        method = self._method(asked.payment_method)
        if asked.confirmation is not None:
            if method is None:
                raise _nothing_to_confirm_with(None)
            _check_redirects(asked.automatic_payment_methods, asked.confirmation)

        def perform(origin: str, now: float) -> Json:
            intent = objects.payment_intent(
                name("pi_3", 23, self._seed, origin), int(now), name("", 25, self._seed, "secret", origin)
            )
            intent |= asked.fields()
            self.intents.add(intent)
            if method is not None:
                self._attach(intent, method, origin)
            if asked.confirmation is not None:
                self._try(intent, asked.confirmation, now)
            return intent

        return perform

    def confirm(self, intent_id: str, form: Form) -> Step:
        intent = self.intent(intent_id)
        asked = ConfirmParameters.read(form)
        method = self._method(asked.payment_method)
        if intent["status"] not in CONFIRMABLE:
            raise unexpected_state(_not_confirmable(intent["status"]), dict(intent))
        if method is None and intent["payment_method"] is None:
            raise _nothing_to_confirm_with(dict(intent))
        _check_redirects(intent["automatic_payment_methods"], asked)

        def perform(origin: str, now: float) -> Json:
            if method is not None:
                self._attach(intent, method, origin)
            if asked.receipt_email is not None:
                intent["receipt_email"] = asked.receipt_email
            self._try(intent, asked, now)
            return intent

        return perform

    def cancel(self, intent_id: str, form: Form) -> Step:
        intent = self.intent(intent_id)
        reason = cancellation_reason(form)
        # A debit that is on its way comes back or arrives; only the one made for trying this out can be stopped.
        on_its_way = intent["status"] == "processing" and self._methods[intent["payment_method"]].behaviour.settles
        if intent["status"] not in CANCELABLE or on_its_way:
            raise unexpected_state(
                f"You cannot cancel this PaymentIntent because it has a status of {intent['status']}. Only a "
                f"PaymentIntent with one of the following statuses may be canceled: {', '.join(CANCELABLE)}.",
                dict(intent),
            )

        def perform(origin: str, now: float) -> Json:
            if intent["status"] == "processing":
                stopped = self.charges.get(intent["latest_charge"])
                if stopped is not None:
                    stopped.update(status="failed", failure_message="Canceled.")
            intent.update(status="canceled", canceled_at=int(now), cancellation_reason=reason, next_action=None)
            return intent

        return perform

    def _method(self, given: str | None) -> _Method | None:
        """A payment method that was used before, or a test method, which gets its own id when it is attached."""
        if given is None:
            return None
        if given in self._methods:
            return self._methods[given]
        if given not in TEST_METHODS:
            raise missing_object("PaymentMethod", given, param="payment_method")
        return _Method("", TEST_METHODS[given])

    def _attach(self, intent: Json, method: _Method, origin: str) -> None:
        if method.id == "":
            method = _Method(name("pm_1", 23, self._seed, origin), method.behaviour)
            self._methods[method.id] = method
        intent.update(payment_method=method.id, status="requires_confirmation")

    def _try(self, intent: Json, how: ConfirmParameters, now: float) -> None:
        """One attempt to take the money. A card decides at once, a bank debit later."""
        method = self._methods[intent["payment_method"]]
        intent.update(next_action=None, last_payment_error=None)
        authentication = method.behaviour.authentication
        if authentication == "always" or (authentication == "on_session" and not how.off_session):
            if how.off_session:
                raise self._declined(intent, self._charge(intent, method, now, how), method, AUTHENTICATION_REQUIRED)
            if how.error_on_requires_action:
                # The bank was never asked for the money, so there is no charge.
                raise self._declined(intent, None, method, AUTHENTICATION_NOT_HANDLED)
            intent.update(status="requires_action", next_action=objects.next_action(how.return_url, intent["id"]))
            return
        charge = self._charge(intent, method, now, how)
        if method.behaviour.bank:
            intent["status"] = "processing"
            if method.behaviour.settles:
                self._agenda.at(
                    now + self._behaviour.settles_after_s, lambda due: self._settle(intent, charge, method, due)
                )
        elif method.behaviour.decline is not None:
            raise self._declined(intent, charge, method, method.behaviour.decline)
        else:
            self._succeed(intent, charge, method, now)

    def _charge(self, intent: Json, method: _Method, now: float, how: ConfirmParameters) -> Json:
        self._tries[intent["id"]] += 1
        charge_id = name(
            "py_3" if method.behaviour.bank else "ch_3", 23, self._seed, intent["id"], self._tries[intent["id"]]
        )
        charge = objects.charge(charge_id, int(now), intent, method.id, method.behaviour)
        if how.radar_session is not None:
            charge["radar_options"] = {"session": how.radar_session}
        if how.mandate is not None:
            charge["payment_method_details"][method.behaviour.type]["mandate"] = how.mandate
        self.charges.add(charge)
        intent["latest_charge"] = charge_id
        return charge

    def _settle(self, intent: Json, charge: Json, method: _Method, now: float) -> None:
        if method.behaviour.decline is None:
            self._succeed(intent, charge, method, now)
        else:
            self._declined(intent, charge, method, method.behaviour.decline)

    def _succeed(self, intent: Json, charge: Json, method: _Method, now: float) -> None:
        amount = intent["amount"]
        intent.update(status="succeeded", amount_received=amount)
        charge.update(status="succeeded", paid=True, captured=True, amount_captured=amount)
        charge["outcome"] = objects.outcome(None, bank=method.behaviour.bank)
        transaction = name("txn_3", 23, self._seed, charge["id"])
        self._agenda.at(now + BALANCE_TRANSACTION_AFTER_S, lambda due: charge.update(balance_transaction=transaction))

    def _declined(self, intent: Json, charge: Json | None, method: _Method, decline: Decline) -> Refusal:
        """Writes a failed try down, and returns what the request that made it is told."""
        if charge is not None:
            charge.update(status="failed", failure_code=decline.code, failure_message=decline.message)
            charge["outcome"] = objects.outcome(decline, bank=method.behaviour.bank)
        error = objects.payment_error(
            decline, charge_id=None if charge is None else charge["id"], method_id=method.id, method=method.behaviour
        )
        intent.update(status="requires_payment_method", payment_method=None, last_payment_error=error)
        return card_error({**error, "payment_intent": dict(intent)})


def _check_redirects(automatic: Json | None, how: ConfirmParameters) -> None:
    """The account's methods may redirect, so Stripe wants to know where to (STRIPE.md §8)."""
    if automatic is not None and automatic["allow_redirects"] != "never" and how.return_url is None:
        raise invalid(
            "A `return_url` must be specified because this Payment Intent is configured to automatically accept the "
            "payment methods enabled in the Dashboard, some of which may require a full page redirect to succeed. If "
            "you do not want to accept redirect-based payment methods, set `automatic_payment_methods[enabled]` to "
            "`true` and `automatic_payment_methods[allow_redirects]` to `never` when creating Setup Intents and "
            "Payment Intents."
        )


def _nothing_to_confirm_with(intent: Json | None) -> Refusal:
    return unexpected_state("You cannot confirm this PaymentIntent because it's missing a payment method.", intent)


def _not_confirmable(status: str) -> str:
    if status == "succeeded":
        return (
            "You cannot confirm this PaymentIntent because it has already succeeded after being previously confirmed."
        )
    return (
        f"You cannot confirm this PaymentIntent because it has a status of {status}. Only a PaymentIntent with one of "
        f"the following statuses may be confirmed: {', '.join(CONFIRMABLE)}."
    )
