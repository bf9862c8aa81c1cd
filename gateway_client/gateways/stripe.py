"""Stripe as callers name it: the credential, its mode, and where it may be sent. Translation is in `stripe_api.py`.

The only file that reads a credential from the environment, and the only one that puts it into a header.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import re
import stat
from collections.abc import Mapping
from urllib.parse import urlsplit

import httpx

from gateway_client.errors import ConfigurationError, without_frames
from gateway_client.gateways.base import Request
from gateway_client.gateways.stripe_api import StripeApi

STRIPE_URL = "https://api.stripe.com"
_KEY = re.compile(r"(?:sk|rk)_(test|live)_[A-Za-z0-9_]{1,240}")
_ACCOUNT = re.compile(r"acct_[A-Za-z0-9]{1,250}")


class Stripe(StripeApi):
    """A Stripe account, by one secret or restricted API key.

    `api_base` is another address of a Stripe-style API: https, or plain http to loopback only; never with a live key.
    `account` names the account where a restricted key may not ask for it. Raises ConfigurationError.
    """

    def __init__(self, api_key: str, *, api_base: str | None = None, account: str | None = None) -> None:
        try:
            self._take(api_key, api_base, account)
        except ConfigurationError as error:
            raise without_frames(error) from None
        finally:
            del api_key, api_base, account  # a crash reporter sends local variables

    def _take(self, api_key: str, api_base: str | None, account: str | None) -> None:
        match = _KEY.fullmatch(str(api_key))
        if match is None:
            # The value is never repeated: it may be a real key with a typing error in it.
            raise ConfigurationError(
                "STRIPE_API_KEY is not a Stripe secret or restricted key (sk_test_…, rk_test_…, sk_live_…, rk_live_…). "
                "Nothing was sent."
            )
        if account is not None and not _ACCOUNT.fullmatch(str(account)):
            raise ConfigurationError("PAYCLI_STRIPE_ACCOUNT must look like acct_…")
        self.mode = match[1]
        self.base_url = STRIPE_URL if api_base is None else _checked_base(str(api_base))
        if self.mode == "live" and api_base is not None:
            raise ConfigurationError(
                "a live key is only ever sent to Stripe's own address: unset PAYCLI_STRIPE_API_BASE or use a test key"
            )
        self.declared_account = account
        self._api_key = api_key
        self.credential_id = hashlib.sha256(f"charge-once credential:{api_key}".encode()).hexdigest()[:32]

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Stripe:
        """From STRIPE_API_KEY or STRIPE_API_KEY_FILE, PAYCLI_STRIPE_API_BASE and PAYCLI_STRIPE_ACCOUNT."""
        try:
            return cls._of_environment(os.environ if environ is None else environ)
        except ConfigurationError as error:
            raise without_frames(error) from None
        finally:
            del environ

    @classmethod
    def _of_environment(cls, env: Mapping[str, str]) -> Stripe:
        key, file = env.get("STRIPE_API_KEY", "").strip(), env.get("STRIPE_API_KEY_FILE", "").strip()
        if key and file:
            raise ConfigurationError("STRIPE_API_KEY and STRIPE_API_KEY_FILE are both set: keep one of them")
        if file:
            try:
                key = _key_in(file)
            except (OSError, ValueError) as error:
                raise ConfigurationError(f"STRIPE_API_KEY_FILE cannot be read: {type(error).__name__}") from None
        if not key:
            raise ConfigurationError(
                "no Stripe key: set STRIPE_API_KEY, or STRIPE_API_KEY_FILE to a file that holds it. Nothing was sent."
            )
        return cls(
            key, api_base=env.get("PAYCLI_STRIPE_API_BASE") or None, account=env.get("PAYCLI_STRIPE_ACCOUNT") or None
        )

    def headers(self, request: Request) -> dict[str, str]:
        """The headers of one request, the credential among them."""
        headers = {
            "Authorization": f"Bearer {self._api_key}",
            "Stripe-Version": request.api_version or self.api_version,
            "User-Agent": "charge-once",
            "Accept": "application/json",
            "Accept-Encoding": "identity",  # a compressed answer could be a bomb
        }
        if request.method == "POST":
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        if request.idempotency_key is not None:
            headers["Idempotency-Key"] = request.idempotency_key
        return headers

    def __repr__(self) -> str:
        known = vars(self)  # a half-made one, of an error in its making, lacks some
        return f"Stripe(mode={known.get('mode')!r}, base_url={known.get('base_url')!r})"

    def __reduce__(self) -> str:
        raise TypeError("a gateway holds a credential and is never pickled: make it again with Stripe.from_env()")


def _checked_base(api_base: str) -> str:
    example = "PAYCLI_STRIPE_API_BASE must be like https://host or http://127.0.0.1:12111"
    try:
        parts = urlsplit(api_base)
        host, port = parts.hostname or "", parts.port
        host.encode("idna")
        httpx.URL(api_base).host  # noqa: B018 - decoded only when it is looked at
    except (ValueError, httpx.InvalidURL):  # UnicodeError is a ValueError
        raise ConfigurationError(example) from None
    plain = api_base.isascii() and api_base.isprintable() and not set(" @") & set(api_base)
    bare = parts.path in ("", "/") and not parts.query and not parts.fragment
    if not (plain and bare and host and port != 0 and parts.scheme in ("https", "http")):
        raise ConfigurationError(example)
    if parts.scheme == "http" and not is_loopback(host):
        raise ConfigurationError(
            "PAYCLI_STRIPE_API_BASE uses plain http to another machine: the key would travel in the clear; use https"
        )
    return f"{parts.scheme}://{parts.netloc}"


def is_loopback(host: str) -> bool:
    """Whether plain http to this host stays on this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


KEY_FILE_BYTES_MAX = 4096


def _key_in(file: str) -> str:
    """Read the key from a small regular file that is its owner's alone; a link is followed, as secrets are mounted."""
    opened = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a FIFO keeps nobody waiting
    try:
        found = os.fstat(opened)
        if not stat.S_ISREG(found.st_mode):
            raise ConfigurationError("STRIPE_API_KEY_FILE must be a regular file. Nothing was sent.")
        if found.st_size > KEY_FILE_BYTES_MAX:
            raise ConfigurationError(
                f"STRIPE_API_KEY_FILE has {found.st_size} bytes, a key has at most {KEY_FILE_BYTES_MAX}: name the file "
                "that holds the key alone. Nothing was sent."
            )
        if found.st_uid not in (os.geteuid(), 0):
            raise ConfigurationError(
                f"STRIPE_API_KEY_FILE belongs to user {found.st_uid}, and must belong to the user of this process "
                f"({os.geteuid()}) or to root. Nothing was sent."
            )
        if found.st_mode & 0o037:  # a group may read it: so mounted secrets are shared with one user
            raise ConfigurationError(
                f"STRIPE_API_KEY_FILE has mode {found.st_mode & 0o7777:04o}, so others on this machine can read or "
                "change it: `chmod 600` it, and change the key if it was there for long. Nothing was sent."
            )
        return os.read(opened, KEY_FILE_BYTES_MAX).decode("ascii").strip()
    finally:
        os.close(opened)
