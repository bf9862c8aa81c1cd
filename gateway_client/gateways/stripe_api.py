"""Stripe's API v1 as pure translation: our requests out, Stripe's replies in. No key, no socket, no clock.

The facts behind every branch are Stripe's pages on idempotent requests, errors, payment intents and pagination. The
requests are compared with the official SDK's, parameter by parameter, in `tests/test_requests.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import lru_cache
from math import ceil, floor
from urllib.parse import parse_qsl, quote, quote_plus, urlencode

from gateway_client.charge import Charge
from gateway_client.errors import InvalidInput
from gateway_client.frozen import Frozen
from gateway_client.gateways import stripe_parameters
from gateway_client.gateways.base import (
    Account,
    Binding,
    Listing,
    Lists,
    Missing,
    NoReply,
    Offered,
    Page,
    Profile,
    Reply,
    Request,
)
from gateway_client.gateways.stripe_answers import read_answer, why_not_an_answer
from gateway_client.gateways.stripe_bounds import BOUNDS
from gateway_client.gateways.stripe_objects import (
    ACCOUNT_ID,
    AccountBody,
    ChargeObject,
    ErrorBody,
    IntentObject,
    answered,
    charge_item,
    class_of,
    could_not_ask,
    decode,
    http_date,
    in_form,
    intent_item,
    not_answered,
    usable_id,
)
from gateway_client.gateways.stripe_pages import P, listing_of, page_of, read_list
from gateway_client.intent import PaymentIntent
from gateway_client.outcome import Answer, CouldNotAsk, ReplyClass
from gateway_client.proof import Expected, Item, prove
from gateway_client.state import CHARGE

API_VERSION = "2026-10-28.endive"  # equal to the pinned SDK's; a test compares them
PAGE_ROWS_MAX = 100  # Stripe's largest page

PROFILE = Profile(
    bounds=BOUNDS,
    # A saved 500 is replayed for ever: a second one says all that a tenth would.
    server_errors_max=2,
    saves_declines=True,
    unsent_life=timedelta(hours=24),
)

ACCOUNT_UNTOLD = (
    "this restricted key may not ask whose it is, and the provider does not name its account (HTTP 403): give it the "
    "permission to read its account"
)

_INTENTS = "/v1/payment_intents"
_CHARGES = "/v1/charges"


class StripeApi:
    """Translation between the flow's words and Stripe's."""

    provider = "stripe"
    api_version = API_VERSION
    profile: Profile = PROFILE
    evidence = Lists((_INTENTS, _CHARGES))

    @property
    def operations(self) -> dict[str, Offered]:
        """What is offered, and how."""
        return {CHARGE: Offered(self._send_of_charge, self.read_charge, self.altered)}

    # Requests out ----------------------------------------------------------------------------------------------

    def account_request(self) -> Request:
        """Whose credential is this?"""
        return Request("GET", "/v1/account")

    def check_parameters(self, intent: PaymentIntent) -> None:
        """Raise InvalidInput, which names the first of the intent's parameters that is not passed on, and why."""
        if found := stripe_parameters.problem(intent.parameters):
            raise InvalidInput(*found)

    def charge_body(self, intent: PaymentIntent, binding: Binding, attempt: int, key: str) -> str:
        """The form of the create call: a pure function of the intent, so that a lost row computes the same bytes.

        `allow_redirects=never` because Stripe answers 400 without it or a return_url; `error_on_requires_action`
        turns "the bank wants the customer" into a decline instead of an intent that waits for ever.
        """
        form: list[tuple[str, str]] = [
            ("amount", str(intent.amount.amount)),
            ("currency", intent.amount.currency),
            ("confirm", "true"),
            ("payment_method", intent.payment_method),
            ("automatic_payment_methods[enabled]", "true"),
            ("automatic_payment_methods[allow_redirects]", "never"),
            ("error_on_requires_action", "true"),
        ]
        if intent.customer is not None:
            form.append(("customer", intent.customer))
        if intent.off_session:
            form.append(("off_session", "true" if intent.off_session is True else intent.off_session))
        for name in stripe_parameters.OPTIONAL:
            value = getattr(intent, name)
            if value is not None:
                form.append((name, value))
        form += [(name, str(value)) for name, value in intent.parameters.items()]
        ours = _names(binding, intent.intent_id, attempt, key)
        # Sorted: two mappings with equal content must give equal bytes.
        form += [(f"metadata[{name}]", value) for name, value in [*ours.items(), *sorted(intent.metadata.items())]]
        return form_of(form)

    def altered(self, frozen: Frozen, binding: Binding) -> str | None:
        """What in a stored form is not the row's, or not ours to send; the form itself is never repeated."""
        pairs = parse_qsl(frozen.body, keep_blank_values=True)
        form = dict(pairs)
        if urlencode(pairs) != frozen.body or len(form) != len(pairs):
            return "its body is not in the form in which bodies are written: the row was changed by hand"
        ours = _names(binding, frozen.intent_id, frozen.attempt, frozen.idempotency_key)
        expected: dict[str, str | None] = {
            "amount": str(frozen.amount),
            "currency": frozen.currency,
            "payment_method": frozen.payment_method,
            "customer": frozen.customer,
            **stripe_parameters.ALWAYS,
            **{f"metadata[{name}]": value for name, value in ours.items()},
        }
        wrong = [name for name, value in expected.items() if form.get(name) != value]
        if wrong:
            return f"its body and its row do not agree ({', '.join(wrong)}): one of them was changed by hand"
        if stripe_parameters.never_sent(form):
            return "its body has a parameter that is never sent from here: the row was changed by hand"
        return None

    def charge_request(self, body: str, key: str, api_version: str) -> Request:
        """Create and confirm in one call, with the row's own bytes, key and API version."""
        return Request("POST", _INTENTS, body, key, api_version)

    def _send_of_charge(self, charge: Charge, body: str, api_version: str) -> Request:
        return self.charge_request(body, charge.idempotency_key, api_version)

    def retrieve_request(self, provider_intent_id: str) -> Request:
        """One intent as it is now."""
        return Request("GET", f"{_INTENTS}/{quote(provider_intent_id, safe='')}")

    def retrieve_charge_request(self, provider_charge_id: str) -> Request:
        """One charge as it is now."""
        return Request("GET", f"{_CHARGES}/{quote(provider_charge_id, safe='')}")

    def cancel_request(self, provider_intent_id: str) -> Request:
        """Cancel an intent: afterwards Stripe makes no charge by it.

        Without a key: cancelling twice is cancelling once; under one the first answer would be replayed, a 500 too.
        """
        return Request("POST", f"{_INTENTS}/{quote(provider_intent_id, safe='')}/cancel", "")

    def list_request(self, path: str, created_from: datetime, created_to: datetime, after: str | None) -> Request:
        """One page of a list, newest first. `created` is in whole seconds: the bounds are widened to them."""
        query = [
            ("created[gte]", str(floor(created_from.timestamp()))),
            ("created[lte]", str(ceil(created_to.timestamp()))),
            ("limit", str(PAGE_ROWS_MAX)),
        ]
        if after is not None:
            query.append(("starting_after", after))
        return Request("GET", f"{path}?{urlencode(query)}")

    # Answers in ------------------------------------------------------------------------------------------------

    def classify(self, reply: Reply | NoReply) -> ReplyClass:
        """What kind of reply this is, by its status alone, whoever wrote it."""
        return class_of(reply)

    def read_time(self, request: Request, reply: Reply) -> datetime | None:
        """The provider's time of an answer: its Date header, unless somebody else may have written it, or before."""
        if why_not_an_answer(request.idempotency_key, reply) is not None or not in_form(reply):
            return None
        return http_date(reply.headers.get("date"))

    def read_account(self, reply: Reply | NoReply) -> Account | CouldNotAsk:
        """The account of the credential, by the provider's word alone: its object, or its 403 that names it."""
        if isinstance(reply, NoReply) or why_not_an_answer(None, reply) is not None:
            return could_not_ask(reply)
        if reply.status == 200:
            body = decode(reply, AccountBody)
            if body is not None and body.kind in (None, "account") and ACCOUNT_ID.fullmatch(body.id):
                return Account(body.id)
        if reply.status == 403:
            error = decode(reply, ErrorBody)
            named = set(ACCOUNT_ID.findall(error.error.message or "")) if error is not None else set()
            if error is not None and error.error.type is not None:
                untold = CouldNotAsk(ACCOUNT_UNTOLD, class_of(reply), credential=True)
                return Account(named.pop()) if len(named) == 1 else untold
        return could_not_ask(reply)

    def read_charge(self, reply: Reply | NoReply, expected: Expected) -> Answer:
        """What one send of a charge told us: see `stripe_answers.py`."""
        if isinstance(reply, NoReply):
            return Answer(not_answered(reply), elapsed_ms=reply.elapsed_ms)
        return read_answer(reply, expected)

    def read_intent(self, reply: Reply | NoReply, expected: Expected) -> Answer | CouldNotAsk:
        """What an intent, asked for by its id, proves: an object of another id answers something else."""
        if isinstance(reply, NoReply) or reply.status != 200 or why_not_an_answer(None, reply) is not None:
            return could_not_ask(reply)
        intent = decode(reply, IntentObject)
        if intent is None or intent.kind not in (None, "payment_intent") or intent.id != expected.provider_intent_id:
            return CouldNotAsk("HTTP 200 with a body that is not the intent that was asked for", class_of(reply))
        return replace(answered(reply), outcome=prove(expected, intent_item(intent)), proven=True)

    def read_page(self, path: str, reply: Reply | NoReply, after: str | None = None) -> Page | CouldNotAsk:
        """One page of a list: every object on it, ours and strangers'. A list of another kind is no answer.

        Nor is one that goes on after an object whose id cannot be read: what follows could not be asked for.
        """
        return self._read_list(path, reply, after, page_of)

    def read_listing(self, path: str, reply: Reply | NoReply, after: str | None = None) -> Listing | CouldNotAsk:
        """Read the same page by places: what is plain is only compared."""
        return self._read_list(path, reply, after, listing_of)

    def _read_list(
        self, path: str, reply: Reply | NoReply, after: str | None, made_of: Callable[..., P]
    ) -> P | CouldNotAsk:
        if isinstance(reply, NoReply) or reply.status != 200 or why_not_an_answer(None, reply) is not None:
            return could_not_ask(reply)
        return read_list(reply, path, after, PAGE_ROWS_MAX, made_of, of_intents=path == _INTENTS)

    def read_item(self, reply: Reply | NoReply) -> Item | Missing | CouldNotAsk:
        """The charge we asked for. A 404 of anybody but Stripe itself (a proxy, a wrong path) says nothing."""
        if isinstance(reply, NoReply) or why_not_an_answer(None, reply) is not None:
            return could_not_ask(reply)
        if reply.status == 200:
            found = decode(reply, ChargeObject)
            if found is not None and found.kind in (None, "charge") and usable_id(found.id):
                return charge_item(found)
        if reply.status == 404:
            body = decode(reply, ErrorBody)
            if body is not None and body.error.code == "resource_missing":
                return Missing()
        return could_not_ask(reply)


def _names(binding: Binding, intent_id: str, attempt: int, key: str) -> dict[str, str]:
    """The metadata under which a charge of ours is found."""
    return {
        "paycli_namespace": binding.namespace,
        "paycli_intent": intent_id,
        "paycli_attempt": str(attempt),
        "paycli_key": key,
    }


_needs_no_quoting = re.compile(r"[A-Za-z0-9_.~-]*").fullmatch
_quoted_name = lru_cache(maxsize=256)(quote_plus)


def form_of(pairs: Iterable[tuple[str, str]]) -> str:
    """Return what `urlencode` does; three times as fast, for few values need quoting, and names are few."""
    return "&".join(
        f"{_quoted_name(name)}={value if _needs_no_quoting(value) else quote_plus(value)}" for name, value in pairs
    )
