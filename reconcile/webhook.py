"""Alerts to one address: a signed POST, tried a few times. Delivered, or an exception; there is nothing between.

What an alert is, and when there is one, is decided elsewhere. Sockets and their deadline are `sockets.py`'s.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlsplit

import httpx

from gateway_client.charge import iso
from gateway_client.clock import Clock
from gateway_client.errors import ConfigurationError, NotNow
from gateway_client.exchange import Channel, Message
from gateway_client.gateways.stripe import is_loopback
from gateway_client.gateways.stripe_objects import retry_after_s
from gateway_client.http1 import OwnChannel
from gateway_client.retry import RetryPolicy
from gateway_client.sockets import origin_of, tls_context
from gateway_client.waiting import Blocking, finish

TRY_S_MAX = 10.0  # one try, from connecting to the last byte that is read
ANSWER_BYTES_MAX = 64 * 1024  # nobody looks at it; it is read so that a receiver that still writes is not cut off
SECRET_CHARACTERS_MIN = 16
RETRY = RetryPolicy(sends_max=4, delay_s_first=0.5, retry_after_s_max=30.0)

_AGAIN = frozenset((408, 409, 425, 429))  # and every 5xx: what may be otherwise in a moment
_HOST = re.compile(r"[a-z0-9._:-]+")  # what may stand in a message, too


class DeliveryFailed(NotNow):
    """No 2xx came: the alerts count as not delivered. The message names scheme and host only, and what to do next."""


def check_url(url: str) -> str:
    """The address as it was given: https, or plain http to this machine; a path and a query are allowed.

    Raises ConfigurationError, which never repeats the address: its path or query may hold a secret.
    """
    problem = _problem_of(url)
    if problem is not None:
        del url  # a crash reporter sends local variables
        raise ConfigurationError(f"{problem} Nothing was sent.")
    return url


def _problem_of(url: str) -> str | None:
    wrong = (
        "the webhook's address must be like https://host/path, or http://127.0.0.1:8080/path on this machine: "
        "no user and password, no #fragment, no spaces, ASCII only."
    )
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        host.encode("idna")
        sent_to = httpx.URL(url).raw_host.decode("ascii").lower()
    except (ValueError, httpx.InvalidURL):  # UnicodeError is a ValueError
        return wrong
    plain = url.isascii() and url.isprintable() and not set(" #") & set(url) and "@" not in parts.netloc
    # Two readers of one address must see one host: else the one that is checked is not the one that is called.
    if not (plain and host == sent_to and _HOST.fullmatch(host) and port != 0 and parts.scheme in ("https", "http")):
        return wrong
    if parts.scheme == "http" and not is_loopback(host):
        return (
            "the webhook's address uses plain http to another machine: the alerts would travel in the clear; use https."
        )
    return None


def check_secret(secret: str) -> bytes:
    """The key of the signature, as the receiver has it. Raises ConfigurationError, which never repeats the secret."""
    if len(secret) < SECRET_CHARACTERS_MIN or not secret.isprintable() or secret != secret.strip():
        del secret
        raise ConfigurationError(
            f"PAYCLI_WEBHOOK_SECRET must be at least {SECRET_CHARACTERS_MIN} printable characters, with no space at "
            "either end. Nothing was sent."
        )
    return secret.encode()


def signature(secret: bytes, body: bytes, at: int) -> str:
    """The header `Paycli-Signature` of a body sent at a Unix time in seconds; Stripe's scheme, so its SDKs check it."""
    return f"t={at},v1={hmac.new(secret, b'%d.' % at + body, hashlib.sha256).hexdigest()}"


def deliver(
    url: str,
    secret: str,
    lines: Sequence[Mapping[str, object]],
    cleared: Sequence[str] = (),
    *,
    clock: Clock,
    transport: httpx.BaseTransport | None = None,
) -> None:
    """POST alerts, of JSON values, and causes that are no more; return when the receiver has answered 2xx.

    Its status is believed alone. At most 4 tries of at most 10 s each, and at most 33 s between two. Each try has the
    same body and the same `Paycli-Delivery`, so that a receiver can drop repeats, and a signature of its own time.
    `transport` stands in for the network and is left open. Raises DeliveryFailed, and ConfigurationError for an
    unusable address or secret.
    """
    try:
        letter = _Letter(check_url(url), check_secret(secret), _body(lines, cleared, clock))
    finally:
        del url, secret  # a crash reporter sends local variables; the letter shows neither
    if transport is None:
        letter.check_trust()
    tries = 0
    while True:
        tries += 1
        answer = _post(letter.message(int(clock.time())), letter.channel(transport))
        if answer.delivered:
            return
        pause = RETRY.delay_s(tries, answer.retry_after_s)
        if not answer.again or pause is None or tries == RETRY.sends_max:
            raise DeliveryFailed(_why(letter.origin, answer, tries))
        least_s, most_s = pause
        clock.sleep(least_s + (most_s - least_s) * clock.jitter())


def _body(lines: Sequence[Mapping[str, object]], cleared: Sequence[str], clock: Clock) -> bytes:
    sent_at = iso(datetime.fromtimestamp(clock.time(), UTC))
    story = {"alerts": [dict(line) for line in lines], "cleared": list(cleared), "sent_at": sent_at}
    return json.dumps(story, separators=(",", ":"), allow_nan=False).encode("ascii")


class _Letter:
    """What is sent, to whom, and the key that signs it. Its repr shows no more than scheme and host."""

    def __init__(self, url: str, secret: bytes, body: bytes) -> None:
        self._url, self._secret, self._body = url, secret, body
        self._id = hashlib.sha256(body).hexdigest()[:32]
        self._server = origin_of(url)
        host = f"[{self._server.host}]" if ":" in self._server.host else self._server.host
        self.origin = f"{'https' if self._server.tls else 'http'}://{host}"

    def check_trust(self) -> None:
        """Raise ConfigurationError when the certificates that https needs cannot be read."""
        if self._server.tls:
            tls_context()

    def channel(self, transport: httpx.BaseTransport | None) -> Channel:
        """Return the way of one try."""
        if transport is None:
            return OwnChannel(Blocking(), self._server, TRY_S_MAX, TRY_S_MAX)
        from gateway_client.foreign import ForeignChannel

        return ForeignChannel(transport, TRY_S_MAX, TRY_S_MAX)

    def message(self, at: int) -> Message:
        """Return what one try sends, signed at a Unix time."""
        headers = {
            "Content-Type": "application/json",
            "Paycli-Signature": signature(self._secret, self._body, at),
            "Paycli-Delivery": self._id,
            "User-Agent": "charge-once",
            "Accept-Encoding": "identity",
            "Connection": "close",
        }
        return Message("POST", self._url, headers, self._body)

    def __repr__(self) -> str:
        return f"_Letter({self.origin!r})"


@dataclass(frozen=True, slots=True)
class _Answer:
    """What came of one try, in words of ours: whatever the receiver wrote is left out."""

    said: str
    next: str
    delivered: bool = False
    again: bool = True
    retry_after_s: float | None = None


def _post(message: Message, channel: Channel) -> _Answer:
    try:
        return finish(_posted(message, channel))
    except channel.unreached as error:
        said = f"no connection ({error})"  # the machine's words or OpenSSL's, none of the receiver's
        return _Answer(said, "Check the address, and that the receiver runs")
    except channel.late:
        return _Answer(f"no answer within {TRY_S_MAX:g} s", "Look at the receiver")
    except channel.broken as error:
        return _Answer(f"the connection broke ({type(error).__name__})", "Look at the receiver")


async def _posted(message: Message, channel: Channel) -> _Answer:
    """Ask, and let the receiver finish what it writes, within reason. The status is its answer, however that ends."""
    try:
        head = await channel.ask(message, lambda: None)
        left = ANSWER_BYTES_MAX
        with suppress(*channel.broken):
            while left > 0 and (piece := await channel.read()):
                left -= len(piece)
        return _read(head.status, head.headers.get("retry-after"))
    finally:
        await channel.close()


def _read(status: int, retry_after: str | None) -> _Answer:
    said = f"HTTP {status}"
    if 200 <= status <= 299:
        return _Answer(said, "", delivered=True)
    if status in _AGAIN or 500 <= status <= 599:
        return _Answer(said, "Look at the receiver", retry_after_s=retry_after_s(retry_after, None))
    if 300 <= status <= 399:
        return _Answer(f"{said}, a redirect, which is not followed", "Give the address that it leads to", again=False)
    return _Answer(said, "Check the address, and PAYCLI_WEBHOOK_SECRET at both ends", again=False)


def _why(origin: str, answer: _Answer, tries: int) -> str:
    if not answer.again:
        when = f"{answer.said}, on try {tries}; trying again would change nothing"
    elif tries == RETRY.sends_max:
        when = f"{answer.said} on the last of {tries} tries"
    else:
        when = f"{answer.said} on try {tries}, with a Retry-After of more than {RETRY.retry_after_s_max:g} s"
    return f"the alerts count as not delivered to {origin}: {when}. {answer.next}, then run this again."
