"""Two oracles for our requests: the official `stripe` client, and the API description. respx catches what is sent.

Nothing here knows how our requests are made.
"""

import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote

import httpx
import respx
import stripe
from jsonschema import Draft202012Validator

Pairs = list[tuple[str, str]]

STRIPE_FOLDER = Path(__file__).parent / "stripe"
SPEC: dict[str, Any] = json.loads((STRIPE_FOLDER / "openapi-2026-10-28.json").read_text(encoding="utf-8"))
FIXTURES: dict[str, Any] = json.loads((STRIPE_FOLDER / "fixtures-2026-10-28.json").read_text(encoding="utf-8"))

stripe.enable_telemetry = False  # the SDK would write a file in the user's home


@dataclass(frozen=True)
class Sent:
    """What one request says, however it is spelled in bytes."""

    method: str
    url: str
    query: tuple[tuple[str, str], ...]
    form: tuple[tuple[str, str], ...]
    headers: tuple[tuple[str, str | None], ...]

    @classmethod
    def of(cls, request: httpx.Request) -> "Sent":
        target = request.url.raw_path.decode("ascii")
        path, _, query = target.partition("?")
        compared = ("authorization", "idempotency-key", "stripe-version", "content-type")
        return cls(
            request.method,
            f"{request.url.scheme}://{request.url.host}{unquote(path)}",
            tuple(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))),
            tuple(parse_qsl(request.content.decode("ascii"), keep_blank_values=True)),
            tuple((name, request.headers.get(name)) for name in compared),
        )


@contextmanager
def caught(answer: Callable[[httpx.Request], httpx.Response] | None = None) -> Iterator[list[httpx.Request]]:
    """Every request that httpx would send, from whichever client; answered by `answer`, or emptily."""
    found: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        found.append(request)
        return httpx.Response(200, json={"object": "anything"}) if answer is None else answer(request)

    with respx.mock(assert_all_called=False) as router:
        router.route().mock(side_effect=handle)
        yield found


def official(api_key: str, call: Callable[[stripe.StripeClient], object]) -> Sent:
    """What the official client sends for a call."""
    with caught() as found, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the SDK uses httpx in a way that 0.28 calls old
        call(_official_client(api_key))
    (request,) = found
    return Sent.of(request)


@cache
def _official_client(api_key: str) -> stripe.StripeClient:
    return stripe.StripeClient(api_key, http_client=stripe.HTTPXClient(allow_sync_methods=True))


# The API description ------------------------------------------------------------------------------------------------


def check_request(sent: Sent) -> str:
    """Validate a request against the API description and return its operation id; AssertionError says what is wrong."""
    path = sent.url.removeprefix("https://api.stripe.com")
    template = next(found for found in sorted(SPEC["paths"], key=len) if _matches(found, path))
    operation = SPEC["paths"][template][sent.method.lower()]
    parameters = {p["name"]: p["schema"] for p in operation.get("parameters", ()) if p["in"] == "query"}
    _check(_nested(sent.query), {"type": "object", "properties": parameters, "additionalProperties": False})
    body = operation.get("requestBody")
    if body is None:
        assert sent.form == ()
    else:
        assert dict(sent.headers)["content-type"] == "application/x-www-form-urlencoded"
        _check(_nested(sent.form), body["content"]["application/x-www-form-urlencoded"]["schema"])
    return str(operation["operationId"])


def _matches(template: str, path: str) -> bool:
    parts, given = template.split("/"), path.split("/")
    return len(parts) == len(given) and all(
        a == b or (a.startswith("{") and b not in ("", "search")) for a, b in zip(parts, given, strict=True)
    )


def _check(value: dict[str, Any], schema: dict[str, Any]) -> None:
    typed = _coerced(value, schema)
    errors = [error.message for error in _validator(schema).iter_errors(typed)]
    assert errors == []


def _validator(schema: dict[str, Any]) -> Draft202012Validator:
    return Draft202012Validator({"components": SPEC["components"], **schema})


def _nested(pairs: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, value in pairs:
        first, *rest = name.replace("]", "").split("[")
        branch, path = tree, [first, *rest]
        for step in path[:-1]:
            branch = branch.setdefault(step, {})
        assert path[-1] not in branch, f"{name} is sent twice"
        branch[path[-1]] = value
    return tree


def _coerced(value: Any, schema: dict[str, Any]) -> Any:
    """Form values are text: turn them into what the schema says they stand for. An unknown name is an error."""
    while "$ref" in schema:
        schema = SPEC["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    for option in schema.get("anyOf", ()):
        try:
            candidate = _coerced(value, option)
        except (AssertionError, ValueError):
            continue
        if _validator(option).is_valid(candidate):
            return candidate
    if isinstance(value, dict) and schema.get("type") == "array":
        assert list(value) == [str(number) for number in range(len(value))]
        return [_coerced(inner, schema["items"]) for inner in value.values()]
    if isinstance(value, dict):
        known, other = schema.get("properties", {}), schema.get("additionalProperties", False)
        unknown = [name for name in value if name not in known and other is False]
        assert unknown == []
        return {name: _coerced(inner, known.get(name, other)) for name, inner in value.items()}
    if schema.get("type") in ("number", "integer"):
        assert str(int(value)) == value
        return int(value)
    if schema.get("type") == "boolean":
        assert value in ("true", "false")
        return value == "true"
    return value
