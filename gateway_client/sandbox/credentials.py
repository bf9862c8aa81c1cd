"""Who asks: the API key of a request, as Stripe checks it, before anything else is looked at.

The key itself goes no further than this file: no message, record or repr holds any part of it.
"""

import base64
import binascii
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from gateway_client.sandbox.refusal import unauthorized
from gateway_client.sandbox.wire import Request

TEST_KEY = re.compile(r"(sk|rk)_test_[A-Za-z0-9_]+")


@dataclass(frozen=True)
class Credential:
    """What the API key of a request says: whether it is a restricted one (`rk_test_…`), and whose it is."""

    restricted: bool
    account_id: str | None
    """None for the sandbox's own account."""


def credential(request: Request, revoked: Collection[str], owners: Mapping[str, str]) -> Credential:
    """What the request's key says; raises 401 for any key that may not ask at all.

    `owners` has the account of each key that is of another account than the sandbox's.
    """
    api_key = _presented(request.headers.get("authorization", ""))
    if api_key == "":
        raise unauthorized(
            "You did not provide an API key. You need to provide your API key in the Authorization header, using "
            "Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY')."
        )
    if TEST_KEY.fullmatch(api_key) is None:
        raise unauthorized("Invalid API Key provided: ****. The sandbox accepts sk_test_… and rk_test_… keys only.")
    if api_key in revoked:
        raise unauthorized(f"Expired API Key provided: {api_key[:8]}****", code="api_key_expired")
    return Credential(api_key.startswith("rk_"), owners.get(api_key))


def _presented(authorization: str) -> str:
    """The key of a Bearer header, or the user name of a Basic one; "" without either."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode("latin-1").partition(":")[0]
        except binascii.Error:
            return "malformed"
    return ""
