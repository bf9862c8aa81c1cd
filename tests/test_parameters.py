"""The create call's other parameters: which are passed on, which are refused and why, and that they are frozen."""

from __future__ import annotations

import hashlib
import pickle
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl

import pytest

from gateway_client import InvalidInput, Money, NeedsPerson, PaymentIntent, Sandbox, State
from gateway_client.gateways.stripe_api import API_VERSION
from gateway_client.gateways.stripe_parameters import PASSED, REFUSED, REFUSED_WITHIN, problem
from tests.kit import KINDS, ORDER, World
from tests.oracle_stripe import SPEC, check_request, official
from tests.oracle_world import API_KEY, BINDING, intent_of
from tests.sandbox_kit import assert_valid, create, in_process
from tests.test_requests import GATEWAY, create_call, ours

SHIPPING: dict[str, Any] = {
    "address": {"city": "Köln", "country": "DE", "line1": "Am Dom 1", "postal_code": "50667"},
    "name": "Ada Löwe",
    "phone": "+49 221 1",
}
FULL: dict[str, Any] = {
    "allowed_payment_method_types": ["card", "link"],
    "amount_details": {"line_items": [{"product_name": "Tea", "quantity": 2, "unit_cost": 1000}]},
    "mandate": "mandate_1",
    "payment_method_options": {
        "card": {"moto": True, "request_three_d_secure": "any", "setup_future_usage": "none"},
        "us_bank_account": {"target_date": "2026-12-01"},
    },
    "radar_options": {"session": "rse_1"},
    "setup_future_usage": "off_session",
    "shipping": SHIPPING,
    "statement_descriptor": "TEA HOUSE",
    "transfer_group": "group 1",
}
SOME = {"setup_future_usage": "off_session", "shipping": SHIPPING, "transfer_group": "g1"}


def intent(**changes: Any) -> PaymentIntent:
    return PaymentIntent("order_42", Money(2000, "usd"), "pm_card_visa", **changes)


@pytest.fixture(params=KINDS)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with World(request.param) as made:
        yield made


# What the request is -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FULL)
def test_each_is_sent_as_the_official_client_sends_it(name: str) -> None:
    """A8: each kind of parameter, nested ones and lists too, is the official client's and validates."""
    _compare(intent(parameters={name: FULL[name]}), {name: FULL[name]})


def test_all_together_are_sent_as_the_official_client_sends_them() -> None:
    """A8: so do all of them, beside every field, whatever order they were given in."""
    given = dict(reversed(FULL.items()))
    _compare(replace(intent_of(customer="cus_1", off_session=True), parameters=given), FULL)


@pytest.mark.parametrize("off_session", ["one_off", "recurring"])
def test_off_session_may_say_how(off_session: Any) -> None:
    """A8: `off_session` may be "one_off" or "recurring", as the API has it."""
    _compare(intent(customer="cus_1", off_session=off_session), {})


@pytest.mark.parametrize("name", PASSED)
def test_each_passed_name_validates_against_the_description(name: str) -> None:
    """A8: each line of the table is in the API description, with its type and its known values."""
    schema, kind = _schema(name), PASSED[name]
    options = [schema, *schema.get("anyOf", ())]
    known = {value for one in options for value in one.get("x-known-values", one.get("enum", [one.get("const")]))}
    known -= {"", None}
    types = {str(one.get("type")) for one in options} | ({"string"} if known else set())
    expected = {"int": "number", "bool": "boolean"}.get(kind, "string")
    assert any(expected in found for found in types)
    grows = name.endswith(("payment_method_types[#]", "[card][network]"))  # Stripe adds some: any name is passed
    if known and not grows:
        assert set(kind.split("|")) == known


def test_every_parameter_of_the_api_is_passed_or_refused_with_a_reason() -> None:
    """A8: nothing of the API description's create call is forgotten: passed, a field of the intent, or refused."""
    roots = {name.partition("[")[0] for name in PASSED}
    assert roots | set(REFUSED) == set(_create_schema()["properties"]) | {"payment_method_types"}
    assert roots & set(REFUSED) == set()


def test_every_nested_parameter_is_passed_or_refused_with_a_reason() -> None:
    """A8: nor is anything below them; of the methods' options, those of cards, Link and bank debits are passed."""
    roots = {name.partition("[")[0] for name in PASSED}
    methods = {name.split("[")[1] for name in PASSED if name.startswith("payment_method_options[")}
    for root in roots:
        for name in _leaves(root, _create_schema()["properties"][root]):
            other = name.startswith("payment_method_options[") and name.split("[")[1] not in methods
            refused = any(re.fullmatch(pattern, name) for pattern in REFUSED_WITHIN)
            assert (name in PASSED) is not (other or refused), name


# What is refused ---------------------------------------------------------------------------------------------------

NOT_PASSED: list[tuple[dict[str, Any], str, str]] = [
    ({"on_behalf_of": "acct_2"}, "on_behalf_of", "connected accounts"),
    ({"application_fee_amount": 100}, "application_fee_amount", "connected accounts"),
    ({"transfer_data": {"destination": "acct_2"}}, "transfer_data[destination]", "connected accounts"),
    ({"capture_method": "manual"}, "capture_method", "taken at once"),
    ({"confirm": False}, "confirm", "always the same"),
    ({"automatic_payment_methods": {"enabled": False}}, "automatic_payment_methods[enabled]", "always the same"),
    ({"return_url": "https://example.com"}, "return_url", "at the screen"),
    ({"confirmation_token": "ctoken_1"}, "confirmation_token", "payment_method"),
    ({"payment_method_data": {"type": "card"}}, "payment_method_data[type]", "payment_method"),
    ({"payment_method_options": {"card": {"capture_method": "manual"}}}, "options[card][capture_method]", "at once"),
    ({"payment_method_options": {"card": {"request_overcapture": "never"}}}, "[request_overcapture]", "at once"),
    ({"payment_method_options": {"klarna": {"reference": "1"}}}, "payment_method_options[klarna]", "bank debits"),
    ({"amount": 1}, "amount", "field of the intent"),
    ({"metadata": {"paycli_key": "x"}}, "metadata[paycli_key]", "field of the intent"),
    ({"metadata[paycli_key]": "x"}, "metadata[paycli_key]", "field of the intent"),
    ({"expand": ["latest_charge"]}, "expand[0]", "answer"),
    ({"colour": "red"}, "colour", "not a parameter"),
    ({"shipping": {"name": "Ada"}}, "shipping", "needs shipping[address]"),
    ({"shipping": {"address": {"line1": "1"}}}, "shipping", "needs shipping[name]"),
    ({"shipping": {**SHIPPING, "colour": "red"}}, "shipping[colour]", "not a parameter"),
    ({"shipping": "Ada"}, "shipping", "not a parameter"),
    ({"setup_future_usage": "sometimes"}, "setup_future_usage", "one of off_session, on_session"),
    ({"setup_future_usage": True}, "setup_future_usage", "one of off_session, on_session"),
    ({"statement_descriptor": "x" * 23}, "statement_descriptor", "at most 22"),
    ({"statement_descriptor": "1234"}, "statement_descriptor", "letter"),
    ({"payment_method_options": {"card": {"moto": "yes"}}}, "[moto]", "true or false"),
    ({"amount_details": {"line_items": [{"quantity": 2, "unit_cost": 1}]}}, "line_items", "needs"),
    ({"amount_details": {"tax": {"total_tax_amount": -1}}}, "[total_tax_amount]", "whole number"),
]


@pytest.mark.parametrize(("parameters", "field", "why"), NOT_PASSED, ids=[str(one[0])[:50] for one in NOT_PASSED])
def test_what_is_not_passed_on_is_refused(world: World, parameters: Any, field: str, why: str) -> None:
    """A8: it is refused by name, with the reason, before anything is written or sent; by `prepare`, too."""
    given = replace(ORDER, parameters=parameters)
    for ask in (world.open_client().charge, world.open_client().prepare):
        with pytest.raises(InvalidInput, match=re.escape(why)) as error:
            ask(given)
        assert field in error.value.field
    assert (world.sql("SELECT * FROM pending_charges"), list(world.asked)) == ([], [])


UNUSABLE: list[tuple[Any, str]] = [
    (None, "parameters"),
    ([("transfer_group", "1")], "parameters"),
    ("transfer_group=1", "parameters"),
    ({1: "1"}, "parameters"),
    ({"": "1"}, "parameters"),
    ({"a[b": "1"}, "parameters"),
    ({"a\x00": "1"}, "parameters"),
    ({"shipping": {"a]": "1"}}, "parameters"),
    ({"shipping": {"a[b]": "1"}}, "parameters"),
    ({"A B": "1"}, "parameters"),
    ({"n" * 200: "1"}, "parameters"),
    ({"x4242424242424242": "1"}, "parameters"),
    ({"shipping[name]": "Ada", "shipping": {"name": "Bob"}}, "shipping[name]"),
    ({"transfer_group": None}, "transfer_group"),
    ({"transfer_group": ""}, "transfer_group"),
    ({"transfer_group": " "}, "transfer_group"),
    ({"transfer_group": 1.5}, "transfer_group"),
    ({"transfer_group": b"1"}, "transfer_group"),
    ({"transfer_group": "a\x00"}, "transfer_group"),
    ({"transfer_group": "\ud800"}, "transfer_group"),
    ({"transfer_group": "t" * 5001}, "transfer_group"),
    ({"shipping": {"address": {"line2": "4242 4242 4242 4242"}}}, "shipping[address][line2]"),
    ({"radar_options": {"session": 4242424242424242}}, "radar_options[session]"),
    ({"excluded_payment_method_types": ["x", "4242424242424242"]}, "excluded_payment_method_types[1]"),
    ({"shipping": {"name": "sk_live_" + "CanaryOfTheCoalMine"}}, "shipping[name]"),
    ({"shipping": {"name": "is rk_test_" + "CanaryOfTheCoalMine!"}}, "shipping[name]"),
    ({"transfer_group": "whsec_" + "CanaryOfTheCoalMine"}, "transfer_group"),
    ({"shipping": {}}, "shipping"),
    ({"excluded_payment_method_types": []}, "excluded_payment_method_types"),
    ({"excluded_payment_method_types": ["x"] * 101}, "parameters"),
    ({f"shipping[a{number}]": "v" * 5000 for number in range(5)}, "parameters"),
]


@pytest.mark.parametrize(("parameters", "field"), UNUSABLE, ids=[str(one[0])[:40] for one in UNUSABLE])
def test_unusable_parameters_are_named(parameters: Any, field: str) -> None:
    """A8: sizes, depth and count are bounded; card numbers, secret keys and odd text are refused, never repeated."""
    with pytest.raises(InvalidInput) as error:
        intent(parameters=parameters)
    assert error.value.field == field
    assert "4242" not in str(error.value)
    assert "Canary" not in str(error.value)


def test_a_mapping_within_itself_ends() -> None:
    """A8: depth is bounded, whatever holds itself."""
    endless: dict[str, Any] = {}
    endless["a"] = endless
    with pytest.raises(InvalidInput, match="deep"):
        intent(parameters=endless)


@pytest.mark.parametrize("secret", ["sk_test_", "rk_live_", "whsec_"])
@pytest.mark.parametrize("field", ["intent_id", "payment_method", "customer", "description", "metadata"])
def test_secret_keys_are_refused_in_every_field(secret: str, field: str) -> None:
    """A8: a secret key pasted into any field is refused and not repeated: it would be stored and shown."""
    value = f"{secret}CanaryOfTheCoalMine"
    changes: dict[str, Any] = {field: {"note": value} if field == "metadata" else value}
    with pytest.raises(InvalidInput, match="secret key") as error:
        replace(intent(), **changes)
    assert "Canary" not in str(error.value)


def test_parameters_are_a_value() -> None:
    """A8: nested or flat, in any order, they are equal, hash and pickle; a later change of the dict is none."""
    given: dict[str, Any] = {"shipping": dict(SHIPPING), "transfer_group": "g1"}
    made = intent(parameters=given)
    given["shipping"]["name"] = "changed"
    flat = intent(parameters=dict(reversed(list(made.parameters.items()))))
    assert flat == made == pickle.loads(pickle.dumps(made)) == replace(made, off_session=False)
    assert hash(flat) == hash(made)
    assert made.parameters["shipping[name]"] == "Ada Löwe"
    assert "Ada" not in repr(made)


# What is frozen, and echoed ------------------------------------------------------------------------------------------


def test_they_are_frozen_with_the_attempt(world: World) -> None:
    """A8: the stored parameters count: asking again with others sends the same bytes, and the key is the same."""
    plain = BINDING.key("charge", ORDER.intent_id, 1)
    world.open_client().prepare(replace(ORDER, parameters=SOME))
    frozen = world.row()
    assert frozen["idempotency_key"] == plain
    charge = world.open_client().charge(replace(ORDER, parameters={"transfer_group": "g2"}))
    assert (charge.state, world.row()["body"]) == (State.SUCCEEDED, frozen["body"])
    assert dict(parse_qsl(frozen["body"]))["transfer_group"] == "g1"
    (made,) = world.sandbox.payment_intents
    assert (made["transfer_group"], made["setup_future_usage"]) == ("g1", "off_session")
    assert made["shipping"]["address"]["city"] == "Köln"


def test_the_gate_sends_what_was_frozen_and_nothing_else(world: World) -> None:
    """A8: a row with every parameter is sent; one whose body was given another, or an odd value, is not."""
    world.open_client().prepare(replace(ORDER, customer="cus_1", off_session="recurring", parameters=SOME))
    body = world.row()["body"]
    for changed in (
        f"{body}&on_behalf_of=acct_2",
        f"{body}&payment_method_options%5Bcard%5D%5Bcapture_method%5D=manual",
        body.replace("setup_future_usage=off_session", "setup_future_usage=x"),
        body.replace("off_session=recurring", "off_session=x"),
        body.replace("shipping%5Bname%5D", "shipping%5Bphone%5D"),
    ):
        assert changed != body
        digest = hashlib.sha256(changed.encode()).hexdigest()
        world.sql("UPDATE pending_charges SET body = ?, body_sha256 = ?", (changed, digest))
        with pytest.raises(NeedsPerson):
            world.open_client().charge(replace(ORDER, customer="cus_1"))
        assert world.sends == []
    digest = hashlib.sha256(body.encode()).hexdigest()
    world.sql("UPDATE pending_charges SET body = ?, body_sha256 = ?", (body, digest))
    assert world.open_client().charge(replace(ORDER, customer="cus_1")).state is State.SUCCEEDED


def test_the_seal_covers_them(world: World) -> None:
    """A8: with a secret outside the database, a parameter that was changed by hand is not sent."""
    client = world.open_client(seal_secret="s" * 32)
    client.prepare(replace(ORDER, parameters=SOME))
    body = world.row()["body"].replace("transfer_group=g1", "transfer_group=g2")
    world.sql("UPDATE pending_charges SET body = ?, body_sha256 = ?", (body, hashlib.sha256(body.encode()).hexdigest()))
    with pytest.raises(NeedsPerson, match="seal"):
        client.charge(ORDER)
    assert world.sends == []


def test_the_sandbox_takes_and_echoes_all_that_is_passed() -> None:
    """A8: every parameter of the table is accepted by the sandbox, and its objects are the API description's."""
    samples = {"int": "5", "bool": "true", "descriptor": "TEA HOUSE", "text": "x"}
    form = {name.replace("#", "0"): samples.get(kind, kind.split("|")[0]) for name, kind in PASSED.items()}
    assert problem(form) is None
    sandbox = Sandbox(time=lambda: 1_800_000_000.0)
    with in_process(sandbox) as client:
        answer = create(client, **form)
        charge = client.get(f"/v1/charges/{answer.json()['latest_charge']}").json()
    made = answer.json()
    assert (answer.status_code, made["status"]) == (200, "succeeded")
    assert_valid("payment_intent", made)
    assert_valid("charge", charge)
    assert (
        charge["shipping"]
        == made["shipping"]
        == {
            "address": dict.fromkeys(("city", "country", "line1", "line2", "postal_code", "state"), "x"),
            **dict.fromkeys(("carrier", "name", "phone", "tracking_number"), "x"),
        }
    )
    assert [charge["transfer_group"], charge["statement_descriptor"]] == ["x", "TEA HOUSE"]
    assert charge["radar_options"] == {"session": "x"}
    assert charge["payment_method_details"]["card"]["mandate"] == "x"
    assert made["payment_method_options"]["card"]["mandate_options"]["amount"] == 5
    assert made["payment_method_options"]["card"]["installments"]["plan"]["count"] == 5
    assert made["excluded_payment_method_types"] == ["x"]


def _compare(given: PaymentIntent, parameters: dict[str, Any]) -> None:
    key = BINDING.key("charge", given.intent_id, 1)
    sent = ours(GATEWAY.charge_request(GATEWAY.charge_body(given, BINDING, 1, key), key, API_VERSION))
    assert official(API_KEY, create_call(given, parameters=parameters)) == sent
    assert check_request(sent) == "PostPaymentIntents"


def _create_schema() -> dict[str, Any]:
    found: dict[str, Any] = SPEC["components"]["schemas"]["PaymentIntentCreateParams"]
    return found


def _resolved(schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        schema = SPEC["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    for option in schema.get("anyOf", ()):
        found = _resolved(option)
        if "properties" in found or "items" in found:
            return found
    return schema


def _schema(name: str) -> dict[str, Any]:
    """The schema of a parameter, by its name in the form."""
    schema = _create_schema()
    for step in re.findall(r"[^\[\]]+", name):
        schema = _resolved(schema)
        schema = schema["items"] if step == "#" else schema["properties"][step]
    return _resolved(schema)


def _leaves(name: str, schema: dict[str, Any]) -> Iterator[str]:
    """Every name of the form below a parameter."""
    schema = _resolved(schema)
    if "items" in schema:
        yield from _leaves(f"{name}[#]", schema["items"])
    elif "properties" in schema:
        for below, inner in schema["properties"].items():
            yield from _leaves(f"{name}[{below}]", inner)
    else:
        yield name
