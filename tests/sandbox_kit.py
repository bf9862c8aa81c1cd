"""What the sandbox's tests share: a full create call, a client without a socket, and the API description."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import jsonschema

from gateway_client.sandbox import Sandbox

OPENAPI = json.loads((Path(__file__).parent / "stripe" / "openapi-2026-10-28.json").read_text())
CONFIRMED = {
    "amount": "1999",
    "currency": "usd",
    "confirm": "true",
    "payment_method": "pm_card_visa",
    "automatic_payment_methods[enabled]": "true",
    "automatic_payment_methods[allow_redirects]": "never",
    "metadata[paycli_intent]": "order_42",
}


@contextmanager
def in_process(sandbox: Sandbox) -> Iterator[httpx.Client]:
    """A client of the sandbox without a socket."""
    headers = {"Authorization": f"Bearer {sandbox.api_key}"}
    with httpx.Client(transport=sandbox.transport(), base_url="http://sandbox", headers=headers) as client:
        yield client


def assert_valid(schema: str, instance: object) -> None:
    """The object is as Stripe describes it."""
    resolver = {"components": OPENAPI["components"], "$ref": f"#/components/schemas/{schema}"}
    jsonschema.Draft202012Validator(resolver).validate(instance)


def create(client: httpx.Client, without: str = "", key: str | None = None, **changes: str) -> httpx.Response:
    """Create and confirm, `without` the parameters that begin so."""
    form = {
        name: value for name, value in {**CONFIRMED, **changes}.items() if not (without and name.startswith(without))
    }
    headers = {} if key is None else {"Idempotency-Key": key}
    return client.post("/v1/payment_intents", data=form, headers=headers)


def error_of(response: httpx.Response) -> tuple[int, str | None, str | None]:
    """Status, code and parameter of an error as Stripe describes errors."""
    error = response.json()["error"]
    assert_valid("error", response.json())
    return response.status_code, error.get("code"), error.get("param")
