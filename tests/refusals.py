"""What tests of refusals share: a provider that does not say whose a restricted key is, or that refuses the account."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from email.utils import formatdate

import pytest

from gateway_client.exchange import Age
from gateway_client.gateways.base import NoReply, Reply, Request
from gateway_client.wire import Wire

RESTRICTED = {"STRIPE_API_KEY": "rk_test_restricted"}
"""A key that may not ask for its account: the provider's refusal names it, as Stripe's does."""


@contextmanager
def account_unnamed() -> Iterator[None]:
    """The provider's answers to whose a key is name no account, unless they are the account itself."""
    really = Wire.exchange

    def exchange(wire: Wire, request: Request, age_s: Age) -> Reply | NoReply:
        reply = really(wire, request, age_s)
        if isinstance(reply, NoReply) or (request.path, reply.status) != ("/v1/account", 403):
            return reply
        body, names = re.subn(rb" on account 'acct_\w+'", b"", reply.body)
        assert names == 1
        return replace(reply, body=body)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Wire, "exchange", exchange)
        yield


@contextmanager
def account_refused(*, echo: bool = True) -> Iterator[list[Request]]:
    """The provider refuses the account at every send, in words that name nothing of the charge; those sends.

    With `echo` the refusal names the key of the send, as the provider's own do.
    """
    really, sends = Wire.exchange, list[Request]()

    def exchange(wire: Wire, request: Request, age_s: Age) -> Reply | NoReply:
        if (request.method, request.path) != ("POST", "/v1/payment_intents"):
            return really(wire, request, age_s)
        sends.append(request)
        headers = {"date": formatdate(usegmt=True), "request-id": "req_1"}
        if echo:
            headers["idempotency-key"] = request.idempotency_key or ""
        error = {"type": "invalid_request_error", "code": "account_invalid"}
        return Reply(400, headers, json.dumps({"error": error}).encode(), 1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Wire, "exchange", exchange)
        yield sends
