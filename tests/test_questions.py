"""What answers to questions tell: the account, the time, one intent, one page. Read from bytes; nothing is asked."""

import json
from dataclasses import replace

import pytest

from gateway_client.gateways.base import Account, Page, Reply, Request
from gateway_client.gateways.stripe_objects import could_not_ask
from gateway_client.outcome import Answer, CouldNotAsk, Succeeded
from tests.test_outcomes import API, AT, EXPECTED, INVALID, KEY, LIST_PATHS, NOW, PAID, error

KNOWN = replace(EXPECTED, provider_intent_id="pi_1")
ANOTHER_KEY = {"idempotency-key": "pc1_" + "b" * 52}
FROM_A_CACHE = {"age": "1"}


def reply(status: int, body: object, headers: dict[str, str] | None = None) -> Reply:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Reply(status, headers or {}, raw, 7)


def page(path: str, *data: object, **fields: object) -> dict[str, object]:
    return {"object": "list", "url": path, "data": list(data), "has_more": False, **fields}


# Nothing


@pytest.mark.parametrize("status", [202, 302, 400, 401, 404, 409, 429, 500, 503])
def test_a_question_without_an_answer_proves_nothing(status: int) -> None:
    """ "Could not ask" is never "does not exist": a list or an intent that is not answered with 200 tells nothing."""
    assert isinstance(API.read_intent(reply(status, PAID), KNOWN), CouldNotAsk)
    for path in LIST_PATHS:
        assert isinstance(API.read_page(path, reply(status, page(path))), CouldNotAsk)


@pytest.mark.parametrize("headers", [{"idempotency-key": KEY}, ANOTHER_KEY, FROM_A_CACHE])
def test_an_answer_to_something_else_proves_nothing(headers: dict[str, str]) -> None:
    """A question carries no key: an answer that names one, or that a cache has kept, answers another request."""
    assert isinstance(API.read_intent(reply(200, PAID, headers), KNOWN), CouldNotAsk)
    assert isinstance(API.read_account(reply(200, OURS, headers)), CouldNotAsk)
    for path in LIST_PATHS:
        assert isinstance(API.read_page(path, reply(200, page(path), headers)), CouldNotAsk)
    charge = {"id": "ch_1", "object": "charge", "status": "succeeded"}
    assert isinstance(API.read_item(reply(200, charge, headers)), CouldNotAsk)
    assert isinstance(API.read_item(reply(404, error(code="resource_missing"), headers)), CouldNotAsk)


# One intent


def test_an_intent_that_was_asked_for() -> None:
    """The intent that was asked for by its id proves what it says."""
    answer = API.read_intent(reply(200, {**PAID, "object": "payment_intent"}), KNOWN)
    assert isinstance(answer, Answer)
    assert (answer.outcome, answer.proven) == (Succeeded("pi_1", "ch_1"), True)


@pytest.mark.parametrize("changed", [{"id": "pi_2"}, {"object": "charge"}, {"object": "list"}, {"id": None}])
def test_another_object_than_was_asked_for(changed: dict[str, object]) -> None:
    """An object of another id or kind is no answer, whatever it says."""
    assert isinstance(API.read_intent(reply(200, {**PAID, **changed}), KNOWN), CouldNotAsk)


# One page


@pytest.mark.parametrize("path", LIST_PATHS)
def test_a_page(path: str) -> None:
    """A list of what was asked for is a page; an empty one as well."""
    kind = "payment_intent" if path == LIST_PATHS[0] else "charge"
    read = API.read_page(path, reply(200, page(path, {**PAID, "object": kind}, has_more=True)))
    assert isinstance(read, Page)
    assert ([item.key for item in read.items], read.last_id, read.has_more) == ([KEY], "pi_1", True)
    assert isinstance(API.read_page(path, reply(200, page(path))), Page)


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"{}", b'{"data":null,"has_more":false}', b'{"data":[{}],"has_more":false}']
)
def test_a_page_of_another_shape_proves_nothing(body: bytes) -> None:
    """A 200 that is not a list is no empty list."""
    for path in LIST_PATHS:
        assert isinstance(API.read_page(path, reply(200, body)), CouldNotAsk)


@pytest.mark.parametrize("path", LIST_PATHS)
def test_a_page_of_another_list_proves_nothing(path: str) -> None:
    """A page of another list, or with objects of another kind, is no page of this one: it would hide what is there."""
    intents, charges = LIST_PATHS
    other, other_kind = (charges, "charge") if path == intents else (intents, "payment_intent")
    for body in (
        page(other),
        page("/v1/customers"),
        page(path, {**PAID, "object": other_kind}),
        page(path, object="search_result"),
        {name: value for name, value in page(path).items() if name != "url"},
        {name: value for name, value in page(path).items() if name != "object"},
    ):
        assert isinstance(API.read_page(path, reply(200, body)), CouldNotAsk), body


# The account

OURS = {"id": "acct_ours", "object": "account"}


def denial(*accounts: str, **fields: object) -> dict[str, object]:
    message = f"The provided key does not have access to {' or '.join(accounts) or 'this'}."
    return error(type="invalid_request_error", message=message, **fields)


ACCOUNTS: dict[str, tuple[int, object, Account | None]] = {
    "told": (200, OURS, Account("acct_ours")),
    "no kind": (200, {"id": "acct_ours"}, Account("acct_ours")),
    "another object": (200, {"id": "acct_ours", "object": "customer"}, None),
    "no account's id": (200, {"id": "cus_1", "object": "account"}, None),
    "an account's id in a sentence": (200, {"id": "see acct_ours", "object": "account"}, None),
    "a page": (200, b"<html>acct_ours</html>", None),
    "created": (201, OURS, None),
    "named by the denial": (403, denial("acct_ours"), Account("acct_ours")),
    "named twice by the denial": (403, denial("acct_ours", "acct_ours"), Account("acct_ours")),
    "two named by the denial": (403, denial("acct_ours", "acct_other"), None),
    "none named by the denial": (403, denial(), None),
    "denial of a page": (403, b"<html>acct_ours</html>", None),
    "denial in another form": (403, {"error": {"message": "acct_ours"}}, None),
    "denial in another JSON": (403, {"message": "acct_ours"}, None),
    "named with another status": (400, denial("acct_ours"), None),
    "unauthorized": (401, denial("acct_ours"), None),
    "down": (503, denial("acct_ours"), None),
}


@pytest.mark.parametrize("case", ACCOUNTS)
def test_whose_key_it_is(case: str) -> None:
    """Whose key it is, is the provider's word alone: its account, or its own denial that names just one (F53)."""
    status, body, account = ACCOUNTS[case]
    read = API.read_account(reply(status, body))
    assert read == account if account is not None else isinstance(read, CouldNotAsk)


def test_which_denial_needs_an_operator() -> None:
    """The provider's own refusal of a key needs an operator; a page with that status may pass by itself."""
    needs = {
        (status, str(body)): getattr(API.read_account(reply(status, body)), "credential", None)
        for status in (401, 403)
        for body in (denial(), b"<html>", {"message": "no"})
    }
    assert needs == {key: key[1] == str(denial()) for key in needs}
    assert not could_not_ask(reply(403, b"<html>")).refused


# The time

HERS = {"date": NOW}
ASKED, SENT = Request("GET", "/v1/account"), Request("POST", "/v1/payment_intents", "", KEY)


@pytest.mark.parametrize("body", [OURS, page("/v1/charges"), error(**INVALID), {**PAID, "object": "payment_intent"}])
@pytest.mark.parametrize("status", [200, 402, 500])
def test_time_of_an_answer(status: int, body: object) -> None:
    """An answer in the provider's form tells its time, whatever its status; a send's may name its own key."""
    assert API.read_time(ASKED, reply(status, body, HERS)) == AT
    assert API.read_time(SENT, reply(status, body, HERS)) == AT
    assert API.read_time(SENT, reply(status, body, {**HERS, "idempotency-key": KEY, "age": "0"})) == AT


@pytest.mark.parametrize("body", [b"", b"<html>down</html>", {"message": "Forbidden"}, {"error": "no"}, [], error()])
@pytest.mark.parametrize("status", [200, 403, 502])
def test_time_of_a_page(status: int, body: object) -> None:
    """The Date of somebody's page teaches nothing: only its own answers tell the provider's time."""
    assert API.read_time(ASKED, reply(status, body, HERS)) is None


@pytest.mark.parametrize("more", [{"age": "3600"}, {"age": "1"}, {"age": "soon"}, ANOTHER_KEY])
def test_time_of_an_old_answer(more: dict[str, str]) -> None:
    """What a cache has kept, and what answers another request, may be of any time."""
    assert API.read_time(ASKED, reply(200, OURS, {**HERS, **more})) is None
    assert API.read_time(SENT, reply(200, OURS, {**HERS, **more})) is None


@pytest.mark.parametrize("date", [None, "yesterday", ""])
def test_time_that_is_none(date: str | None) -> None:
    """An answer without a usable Date tells no time."""
    assert API.read_time(ASKED, reply(200, OURS, {} if date is None else {"date": date})) is None
