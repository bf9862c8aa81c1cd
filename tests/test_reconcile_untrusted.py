"""What the provider says is untrusted: the run reads past it, believes no false claim, keeps and shows none of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from gateway_client.flow.lookup import NOT_ASKED_FOR
from reconcile import RunResult
from tests.nightly import DATABASES, Codes, Night, codes, night, only
from tests.nightly_lists import CHARGES, INTENTS, Lists, Object

TEXT_MAX = 600
"""More than any sentence of ours; less than what a provider may try to make us keep."""

NASTY = {
    "colour": "\x1b[31mred\x1b[0m",
    "title": "\x1b]0;owned\x07",
    "C1": "\x9b31mred",
    "NUL": "a\0b",
    "lines": "one\r\nrun_1: complete\n",
    "bidi": "\u202e\u2066moc.elpmaxe\u2069",
    "invisible": "\u200b\u200f\ufeff",
    "HTML": "<script>alert(1)</script>",
    "markup": "[bold red]paid[/] [link=https://example.com]x[/link]",
    "SQL": "'; DROP TABLE pending_charges; --",
    "format": "%s%n{0}{run.__class__}",
    "letters": "ｐａｉｄ Ωß",
    "long": "A" * 10_000,
}


@pytest.fixture(params=DATABASES)
def world(request: pytest.FixtureRequest) -> Iterator[Night]:
    with night(request.param) as made:
        yield made


def came_to(result: RunResult) -> tuple[bool, Codes]:
    return result.complete, codes(result)


def texts(value: object) -> Iterator[str]:
    """Every text in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from (name, *texts(inner))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from texts(inner)


def harmful(world: Night, result: RunResult) -> list[str]:
    """Texts that a run reports or keeps, and should not: unprintable, not ASCII, too long, or as they came."""
    kept = [*texts(json.loads(json.dumps(result.as_json()))), *texts(world.dump())]
    assert len(kept) > 20
    return [
        text[:80]
        for text in kept
        if not (text.isascii() and (text.isprintable() or not text))
        or len(text) > TEXT_MAX
        or any(nasty in text for nasty in NASTY.values())
    ]


def change(world: Night, intent_id: str, **fields: Any) -> None:
    """Change what the provider has under this claim; a field that only one kind of object has is changed there."""
    for made in (*world.sandbox.charges, *world.sandbox.payment_intents):
        if made["metadata"].get("paycli_intent") == intent_id:
            world.sandbox.change(made["id"], **{name: value for name, value in fields.items() if name in made})


def begin(world: Night, known: str, intent_id: str) -> None:
    """A charge of ours that the provider has, and how much of it we know."""
    if known == "not here":
        world.pay_behind_our_back(intent_id)
    else:
        world.pay(intent_id) if known == "succeeded" else world.doubt(intent_id)


def states(world: Night) -> dict[str, str]:
    return dict(world.sql("SELECT intent_id, state FROM pending_charges"))


def nasty_everywhere(nasty: str) -> Object:
    return {
        "description": nasty,
        "statement_descriptor": nasty,
        "failure_code": nasty,
        "failure_message": nasty,
        "receipt_email": nasty,
        "status": nasty,
        "currency": nasty,
        "customer": nasty,
        "cancellation_reason": nasty,
        "last_payment_error": {"type": nasty, "code": nasty, "decline_code": nasty, "param": nasty, "message": nasty},
        "outcome": {"reason": nasty, "seller_message": nasty},
        "metadata": {nasty: nasty, f"paycli_{nasty}": nasty, "paycli_intent": nasty, "paycli_key": nasty},
    }


# Texts ---------------------------------------------------------------------------------------------------------------


def test_texts_of_strangers(world: Night) -> None:
    """Whatever strangers' charges have in their fields, they are counted as foreign, and nothing of it is kept."""
    world.pay("order_1")
    for kind, nasty in NASTY.items():
        world.stranger_pays(metadata={"paycli_intent": kind})
        change(world, kind, **nasty_everywhere(nasty))
    result = world.run()
    assert (came_to(result), result.foreign, result.matched) == ((True, set()), len(NASTY), 1)
    assert harmful(world, result) == []


@pytest.mark.parametrize("known", ["succeeded", "in doubt", "not here"])
def test_texts_of_charges_of_ours(world: Night, known: str) -> None:
    """Charges of ours with the like in every field but their claim become no success, and no crash (F60)."""
    for kind, nasty in NASTY.items():
        begin(world, known, kind)
        change(world, kind, **{**nasty_everywhere(nasty), "metadata": {**world.claims(kind), nasty: nasty}})
    result = world.run()
    code = "missing_locally" if known == "not here" else "currency_mismatch"
    assert came_to(result) == (True, {(code, kind) for kind in NASTY})
    assert harmful(world, result) == []
    state = {"succeeded": "succeeded", "in doubt": "conflict"}.get(known)
    assert states(world) == ({} if state is None else dict.fromkeys(NASTY, state))


def test_reasons(world: Night) -> None:
    """The reason of a decline is kept as plain words, whatever the provider says."""
    for kind, nasty in NASTY.items():
        world.doubt(kind, payment_method="pm_card_chargeDeclined")
        error = {"type": "card_error", "code": nasty, "decline_code": nasty, "param": nasty, "message": nasty}
        change(world, kind, last_payment_error=error, failure_code=nasty, failure_message=nasty)
    result = world.run()
    assert came_to(result) == (True, {("outcome_recovered", kind) for kind in NASTY})
    assert (states(world), harmful(world, result)) == (dict.fromkeys(NASTY, "declined"), [])


@pytest.mark.parametrize("kind", ["colour", "lines", "HTML", "letters", "long"])
def test_errors(world: Night, kind: str) -> None:
    """An error's own words are not repeated in why a run is incomplete; nor is a header's text kept."""
    nasty = NASTY[kind]
    error = {"type": nasty, "code": nasty, "decline_code": nasty, "param": nasty, "message": nasty, "doc_url": nasty}
    header = nasty.encode().replace(b"\r", b"").replace(b"\n", b"")[:200]

    def hook(request: httpx.Request) -> httpx.Response | None:
        if request.url.path != CHARGES:
            return None
        return httpx.Response(500, json={"error": error}, headers=[(b"Request-Id", header), (b"Retry-After", header)])

    world.pay_behind_our_back("order_1")
    world.hooks.append(hook)
    result = world.run()
    assert came_to(result) == (False, {("missing_locally", "order_1")})
    assert (result.why_incomplete or "").startswith(f"{CHARGES}: HTTP 500")
    assert harmful(world, result) == []


def test_ids_that_name_other_objects(world: Night) -> None:
    """Where the id of another object should be, and is none, nothing is kept; what is proven stays proven."""
    for kind in NASTY:
        world.doubt(kind)
    lists = Lists(world, rows=100)

    def change_ids(one: Object) -> None:
        nasty = NASTY[one["metadata"]["paycli_intent"]]
        one.update({name: nasty for name in ("customer", "payment_intent", "latest_charge") if name in one})

    lists.change = change_ids
    result = world.run()
    assert came_to(result) == (True, {("outcome_recovered", kind) for kind in NASTY})
    assert (states(world), harmful(world, result)) == (dict.fromkeys(NASTY, "succeeded"), [])


@pytest.mark.parametrize("kind", ["colour", "bidi", "HTML", "markup", "long"])
def test_ids(world: Night, kind: str) -> None:
    """An object whose own id is none makes the run incomplete; the id is neither kept nor shown."""
    world.doubt("order_1")
    lists = Lists(world)
    lists.change = lambda one: one.update(id=NASTY[kind]) if one["object"] == "charge" else None
    result = world.run()
    assert came_to(result) == (False, {("outcome_recovered", "order_1")})
    assert harmful(world, result) == []


def test_lone_surrogates(world: Night) -> None:
    """Half a character, which no JSON may hold, makes the page unreadable: incomplete, and nothing rests on it."""
    world.pay("order_1")
    world.doubt("doubt")
    world.sandbox.change(world.row("order_1")["provider_charge_id"], description="cut \ud83d")
    result = world.run()
    assert came_to(result) == (False, {("outcome_recovered", "doubt")})
    assert result.why_incomplete == f"{CHARGES}: HTTP 200 with a body that is not Stripe's"
    assert harmful(world, result) == []


def test_metadata_that_were_edited(world: Night) -> None:
    """Metadata that somebody has overwritten make no stranger of a charge whose id we know (F136)."""
    for number, (kind, nasty) in enumerate(NASTY.items()):
        world.pay(kind, "pm_card_visa" if number % 2 else "pm_card_chargeDeclined")
        change(world, kind, metadata={"paycli_intent": nasty, nasty: nasty})
    result = world.run()
    assert (came_to(result), result.matched, result.foreign) == ((True, set()), len(NASTY), 0)
    assert harmful(world, result) == []


# Claims --------------------------------------------------------------------------------------------------------------

INTENT_IDS: list[object] = [
    *("", " ", " order_9", "order_9 ", "a\nb", "\x1b[31m", "order\0", "ö", "\u202e9", "x" * 129, "a" * 10_000),
    *("me@example.com", "4242424242424242"),
    *(None, 9, 1.5, True, ["order_9"], {"id": "order_9"}),
]
ATTEMPTS: list[object] = [
    *("", "0", "00", "01", "-1", "+1", "1.0", "1.5", "1e0", " 1", "1 ", "1\n", "１", "١", "0x1", "one", str(10**12)),
    *(None, 1, 1.0, True, ["1"], {"1": "1"}, "2", "999999999"),  # the key is attempt 1's
]
NAMESPACES: list[object] = ["other", "Default", "default ", "", None, ["default"], "x" * 10_000]
KEYS: list[object] = ["", None, 1, "pc1_" + "a" * 52, "\x1b[31m", "x" * 10_000]


def claims(world: Night) -> list[Object]:
    """Claims to be of order_9, attempt 1, each wrong in one way."""
    binding = world.binding
    others = [replace(binding, mode="live"), replace(binding, account="acct_2"), replace(binding, namespace="other")]
    return [
        # The key is that of the very id.
        *({"intent": intent_id, "key": binding.key("charge", str(intent_id), 1)} for intent_id in INTENT_IDS),
        *({"intent": intent_id} for intent_id in ("order_8", "order_1")),
        *({"attempt": attempt} for attempt in ATTEMPTS),
        *({"namespace": namespace} for namespace in NAMESPACES),
        *({"key": key} for key in KEYS),
        *({"key": other.key("charge", "order_9", 1)} for other in others),
        {"key": binding.key("cancel", "order_9", 1)},
    ]


def test_claims_that_do_not_fit(world: Night) -> None:
    """A claim with an unusable id or attempt, another namespace or another key than ours is foreign (F135, S11).

    It is counted, and never touched: no row, no finding, nothing kept.
    """
    world.pay("order_1")
    wrong = claims(world)
    for number, claim in enumerate(wrong):
        world.stranger_pays(500, metadata={"paycli_intent": f"claim_{number}"})
        carried = {**world.claims("order_9"), **{f"paycli_{name}": value for name, value in claim.items()}}
        change(world, f"claim_{number}", metadata=carried)
    result = world.run()
    assert states(world) == {"order_1": "succeeded"}
    assert (came_to(result), result.foreign, result.matched) == ((True, set()), len(wrong), 1)
    assert harmful(world, result) == []


@pytest.mark.parametrize("known", ["in doubt", "not here"])
def test_another_mode(world: Night, known: str) -> None:
    """A charge that carries our names, and is of the other mode, is never taken for a success of ours (S7, S11)."""
    begin(world, known, "order_1")
    change(world, "order_1", livemode=True)
    assert world.run().complete
    assert set(states(world).values()) <= {"unknown"}


# Numbers -------------------------------------------------------------------------------------------------------------

AMOUNTS = [-1, -(10**30), 0, 1999, 2**31, 2**53 + 1, 2**63, 10**30, 10**300, None]
NO_TIMES = [-(10**30), 10**30, 10**300, 253402300800, None]


@pytest.mark.parametrize("known", ["succeeded", "in doubt", "not here"])
def test_amounts(world: Night, known: str) -> None:
    """No amount crashes a run: a difference is found, and what cannot be a row's amount is flagged, not imported."""
    orders = {f"order_{number}": amount for number, amount in enumerate(AMOUNTS)}
    for order, amount in orders.items():
        begin(world, known, order)
        change(world, order, amount=amount, amount_received=amount)
    result = world.run()
    code = "missing_locally" if known == "not here" else "amount_mismatch"
    assert came_to(result) == (True, {(code, order) for order in orders})
    usable = [order for order, amount in orders.items() if amount is not None and 0 < amount < 2**53]
    expected = {"succeeded": "succeeded", "in doubt": "conflict", "not here": "succeeded"}[known]
    assert states(world) == dict.fromkeys(usable if known == "not here" else orders, expected)
    assert harmful(world, result) == []


def test_times(world: Night) -> None:
    """No `created` crashes a run, or makes a success of ours missing."""
    for number in range(len(NO_TIMES)):
        world.pay(str(number))
    lists = Lists(world, rows=3)
    lists.change = lambda one: one.update(created=NO_TIMES[int(one["metadata"]["paycli_intent"])])
    assert came_to(world.run()) == (True, set())


@pytest.mark.parametrize("created", [-1, 0, 10**11])
def test_other_times(world: Night, created: int) -> None:
    """A page with an object of another time than was asked for is no answer: the run is incomplete, nothing missing."""
    world.pay("order_1")
    Lists(world).change = lambda one: one.update(created=created)
    result = world.run()
    assert (came_to(result), result.why_incomplete) == ((False, set()), f"{INTENTS}: {NOT_ASKED_FOR}")


@pytest.mark.parametrize(
    "fields",
    [
        *({"amount": amount} for amount in (19.99, 2000.0, "2000", True)),
        *({"created": created} for created in (1.5, "2026-11-20", True)),
        *({"metadata": []}, {"status": 7}, {"customer": {"object": "customer"}}, {"id": None}, {"livemode": "false"}),
    ],
    ids=str,
)
def test_objects_of_another_shape(world: Night, fields: Object) -> None:
    """An object of ours of another shape is no reason to guess: the run says which one it could not read (B2)."""
    world.pay("order_1")
    world.doubt("doubt")
    lists = Lists(world)
    charge = world.row("order_1")["provider_charge_id"]
    lists.change = lambda one: one.update(fields) if one["id"] == charge else None
    result = world.run()
    assert came_to(result) == (False, {("outcome_recovered", "doubt")})
    (name,) = result.unreadable_ids
    assert name.startswith("no_id_") if "id" in fields else name == charge
    assert name in (result.why_incomplete or "")
    lists.change = lambda one: None
    assert came_to(world.run()) == (True, {("outcome_recovered", "doubt")})


def test_nested_metadata(world: Night) -> None:
    """Metadata that are no texts, as deep as they like, are read past."""
    deep: object = "deep"
    for _ in range(200):
        deep = [deep]
    world.pay_behind_our_back("order_1")
    more = {"deep": deep, "nothing": None, "float": 1e300, "object": {"paycli_intent": "order_2"}}
    change(world, "order_1", metadata={**world.claims("order_1"), **more})
    result = world.run()
    assert (only(result).code, result.complete) == ("missing_locally", True)
    assert harmful(world, result) == []
