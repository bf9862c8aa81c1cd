"""The sandbox's lists: order, filters on `created`, cursors, limits and expansion."""

from collections.abc import Iterator

import httpx
import pytest

from gateway_client.sandbox import Sandbox

START = 1_800_000_000
COUNT = 25


@pytest.fixture
def sandbox() -> Sandbox:
    return Sandbox(time=lambda: float(START))


@pytest.fixture
def client(sandbox: Sandbox) -> Iterator[httpx.Client]:
    """A client of a ledger with 25 charges: two in each second, every fifth of them with a customer."""
    headers = {"Authorization": f"Bearer {sandbox.api_key}"}
    with httpx.Client(transport=sandbox.transport(), base_url="http://sandbox", headers=headers) as client:
        for number in range(COUNT):
            form = {
                "amount": str(100 + number),
                "currency": "usd",
                "confirm": "true",
                "payment_method": "pm_card_visa",
                "automatic_payment_methods[enabled]": "true",
                "automatic_payment_methods[allow_redirects]": "never",
                **({"customer": "cus_5"} if number % 5 == 0 else {}),
            }
            assert client.post("/v1/payment_intents", data=form).status_code == 200
            sandbox.clock.advance(number % 2)
        yield client


def numbers(response: httpx.Response) -> list[int]:
    assert response.status_code == 200, response.text
    return [item["amount"] - 100 for item in response.json()["data"]]


def error_of(response: httpx.Response) -> list[object]:
    error = response.json()["error"]
    return [response.status_code, error.get("code"), error.get("param")]


@pytest.mark.parametrize("path", ["/v1/charges", "/v1/payment_intents"])
def test_newest_first_ten_at_a_time(client: httpx.Client, path: str) -> None:
    """A list is newest first, ten long unless a limit says otherwise, and says whether more follow."""
    page = client.get(path).json()
    assert numbers(client.get(path)) == list(range(24, 14, -1))
    assert [page["object"], page["url"], page["has_more"]] == ["list", path, True]
    assert numbers(client.get(path, params={"limit": 100})) == list(range(24, -1, -1))
    assert client.get(path, params={"limit": COUNT}).json()["has_more"] is False
    assert client.get(path, params={"limit": COUNT - 1}).json()["has_more"] is True


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ({"gte": 11}, [24, 23, 22]),
        ({"gt": 11}, [24]),
        ({"lt": 1}, [1, 0]),
        ({"lte": 1}, [3, 2, 1, 0]),
        ({"gt": 1, "lt": 3}, [5, 4]),
        ({"gte": 1, "lte": 2}, [5, 4, 3, 2]),
        ({"gte": 13}, []),
        ({"gt": 5, "lt": 5}, []),
    ],
)
def test_created(client: httpx.Client, bounds: dict[str, int], expected: list[int]) -> None:
    """`created` bounds are whole seconds, each inclusive or exclusive as its name says."""
    params = {f"created[{bound}]": START + second for bound, second in bounds.items()}
    assert numbers(client.get("/v1/charges", params=params)) == expected


def test_created_exactly(client: httpx.Client) -> None:
    """`created` without a bound is that second."""
    assert numbers(client.get("/v1/charges", params={"created": START + 2})) == [5, 4]


@pytest.mark.parametrize("limit", [1, 3, 7, 24, 25])
def test_every_object_once_forwards(client: httpx.Client, limit: int) -> None:
    """Paging with `starting_after` meets every object once, also where many share a second."""
    seen: list[int] = []
    params: dict[str, str | int] = {"limit": limit, "created[lte]": START + 100}
    for _ in range(COUNT + 1):
        page = client.get("/v1/charges", params=params)
        seen += numbers(page)
        if not page.json()["has_more"]:
            break
        params["starting_after"] = page.json()["data"][-1]["id"]
    assert seen == list(range(24, -1, -1))


def test_every_object_once_backwards(client: httpx.Client) -> None:
    """Paging with `ending_before` gives the page next to the cursor, newest first, up to the newest object."""
    data = client.get("/v1/charges", params={"limit": 100}).json()["data"]
    first = client.get("/v1/charges", params={"limit": 10, "ending_before": data[-1]["id"]})
    assert [numbers(first), first.json()["has_more"]] == [list(range(10, 0, -1)), True]
    last = client.get("/v1/charges", params={"limit": 10, "ending_before": data[10]["id"]})
    assert [numbers(last), last.json()["has_more"]] == [list(range(24, 14, -1)), False]
    assert numbers(client.get("/v1/charges", params={"ending_before": data[0]["id"]})) == []


def test_new_objects_do_not_disturb_paging(client: httpx.Client, sandbox: Sandbox) -> None:
    """What appears while paging appears in front: the pages after the cursor stay as they were."""
    page = client.get("/v1/charges").json()
    before = numbers(client.get("/v1/charges", params={"starting_after": page["data"][-1]["id"]}))
    sandbox.clock.advance(5)
    request = client.post("/v1/payment_intents", data={"amount": 1, "currency": "usd"})
    assert request.status_code == 200
    assert numbers(client.get("/v1/charges", params={"starting_after": page["data"][-1]["id"]})) == before


def test_filters(client: httpx.Client) -> None:
    """Lists filter by customer, charges by payment intent, together with the rest."""
    assert numbers(client.get("/v1/charges", params={"customer": "cus_5"})) == [20, 15, 10, 5, 0]
    page = client.get("/v1/payment_intents", params={"customer": "cus_5", "limit": 2})
    assert [numbers(page), page.json()["has_more"]] == [[20, 15], True]
    rest = {"customer": "cus_5", "limit": 3, "starting_after": page.json()["data"][-1]["id"]}
    page = client.get("/v1/payment_intents", params=rest)
    assert [numbers(page), page.json()["has_more"]] == [[10, 5, 0], False]
    intent_id = page.json()["data"][0]["id"]
    assert numbers(client.get("/v1/charges", params={"payment_intent": intent_id})) == [10]
    assert numbers(client.get("/v1/charges", params={"customer": "cus_none"})) == []


def test_expand(client: httpx.Client) -> None:
    """`latest_charge` of an intent and `payment_intent` of a charge are expanded where they are asked for."""
    intent = client.get("/v1/payment_intents", params={"expand[]": "data.latest_charge", "limit": 1}).json()["data"][0]
    assert intent["latest_charge"]["payment_intent"] == intent["id"]
    charge_id = intent["latest_charge"]["id"]
    charge = client.get(f"/v1/charges/{charge_id}", params={"expand[0]": "payment_intent"}).json()
    assert charge["payment_intent"]["latest_charge"] == charge_id


@pytest.mark.parametrize(
    ("params", "code", "param"),
    [
        ({"limit": "0"}, "parameter_invalid_integer", "limit"),
        ({"limit": "101"}, "parameter_invalid_integer", "limit"),
        ({"limit": "ten"}, "parameter_invalid_integer", "limit"),
        ({"starting_after": "ch_x"}, "resource_missing", "starting_after"),
        ({"ending_before": "ch_x"}, "resource_missing", "ending_before"),
        ({"created[since]": "1"}, "parameter_unknown", "created[since]"),
        ({"created[gte]": "yesterday"}, "parameter_invalid_integer", "created[gte]"),
        ({"metadata[paycli_key]": "x"}, "parameter_unknown", "metadata"),
        ({"expand[]": "data.customer"}, None, "expand"),
        ({"transfer_group": "x"}, None, "transfer_group"),
    ],
)
def test_refusals(client: httpx.Client, params: dict[str, str], code: str | None, param: str) -> None:
    """Limits beyond 1 to 100, unknown cursors and unknown filters are refused; there is no metadata filter."""
    assert error_of(client.get("/v1/charges", params=params)) == [400, code, param]


def test_one_cursor_only(client: httpx.Client) -> None:
    """`starting_after` and `ending_before` exclude each other."""
    object_id = client.get("/v1/charges").json()["data"][0]["id"]
    both = {"starting_after": object_id, "ending_before": object_id}
    assert client.get("/v1/charges", params=both).status_code == 400
