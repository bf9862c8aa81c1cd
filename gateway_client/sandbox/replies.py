"""The provider's answers as bytes with headers: which of them echo the key, and what is kept of one to be replayed.

What is answered is decided in `model.py`.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from email.utils import formatdate

from gateway_client.sandbox.wire import Json, Reply

ECHO = ("Idempotency-Key", "Original-Request")
OF_ONE_SENDING = ("Date", "Request-Id")
"""Differ from one replay of an answer to the next."""


def written(
    status: int, body: Json, *, version: str, request_id: str, key: str | None, more: Mapping[str, str], now: float
) -> Reply:
    """An answer to a request with this id; `key` is the idempotency key that it echoes, None for no echo."""
    headers = {"Content-Type": "application/json", "Stripe-Version": version, **more}
    if key is not None:
        # Of a first answer, too: there it names the request itself.
        headers |= dict(zip(ECHO, (key, request_id), strict=True))
    return Reply(status, (*headers.items(), ("Request-Id", request_id), *_moment(now)), json.dumps(body).encode())


def redirected(path: str, now: float) -> Reply:
    """A 302 to an address that does not exist."""
    return Reply(302, (("Location", "https://elsewhere.invalid" + path), *_moment(now)), b"")


def kept(reply: Reply) -> Reply:
    """The part of an answer that is the same in each replay: not its date, nor the id of the request it answered."""
    return _without(reply, OF_ONE_SENDING)


def replayed(saved: Reply, request_id: str, now: float) -> Reply:
    """A saved answer, as the answer to another request."""
    mark = (("Idempotent-Replayed", "true"), ("Request-Id", request_id), *_moment(now))
    return replace(saved, headers=(*saved.headers, *mark))


def unechoed(reply: Reply) -> Reply:
    """The answer without the headers that name the request which it answers."""
    return _without(reply, ECHO)


def _without(reply: Reply, names: tuple[str, ...]) -> Reply:
    return replace(reply, headers=tuple(pair for pair in reply.headers if pair[0] not in names))


def _moment(now: float) -> tuple[tuple[str, str], ...]:
    """The provider's time, as RFC 7231 wants it."""
    return (("Date", formatdate(now, usegmt=True)),)
