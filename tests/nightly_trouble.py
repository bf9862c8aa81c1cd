"""What may become of a question about a provider's list: failures, and answers that are none."""

from __future__ import annotations

from collections.abc import Callable

import httpx

from tests.nightly_lists import CHARGES, INTENTS, LISTS, Lists, Trouble, listed

ERROR_500 = {"error": {"type": "api_error", "message": "we are sorry"}}
RATE_LIMIT = {"error": {"type": "invalid_request_error", "code": "rate_limit"}}
HTML = b"<!doctype html><h1>Bad gateway</h1>"


def fault(name: str) -> Callable[[Lists], Trouble]:
    """A fault of the sandbox."""

    def of(lists: Lists) -> Trouble:
        def trouble(request: httpx.Request) -> httpx.Response:
            lists.world.sandbox.fault(name, on=f"GET {request.url.path}")
            return lists.world.sandbox.transport().handle_request(request)

        return trouble

    return of


def answer(status: int, body: object, **headers: str) -> Callable[[Lists], Trouble]:
    return lambda lists: lambda request: lists.answer(status, body, **headers)


def failure(error: type[httpx.TransportError]) -> Callable[[Lists], Trouble]:
    def trouble(request: httpx.Request) -> httpx.Response:
        raise error("it failed", request=request)

    return lambda lists: trouble


def the_other_list(lists: Lists) -> Trouble:
    """A page of charges for one of intents, and the other way round."""

    def trouble(request: httpx.Request) -> httpx.Response:
        other = CHARGES if request.url.path == INTENTS else INTENTS
        params = request.url.params.remove("starting_after")
        return lists.page(other, params, "")

    return trouble


def headed(**headers: str) -> Callable[[Lists], Trouble]:
    """An empty page, with a header that none of ours has."""

    def of(lists: Lists) -> Trouble:
        return lambda request: lists.answer(200, listed(request.url.path, [], has_more=False), **headers)

    return of


TROUBLES: dict[str, tuple[Callable[[Lists], Trouble], str]] = {
    "500": (answer(500, ERROR_500), "HTTP 500: api_error"),
    "502 of a proxy": (answer(502, "Bad gateway"), "HTTP 502"),
    "429": (answer(429, RATE_LIMIT), "HTTP 429: rate_limit"),
    "429 with Retry-After": (answer(429, RATE_LIMIT, **{"Retry-After": "3"}), "HTTP 429: rate_limit"),
    "404": (answer(404, {}), "HTTP 404"),
    "a redirect": (fault("redirect_302"), "HTTP 302"),
    "a timeout": (failure(httpx.ReadTimeout), "no whole answer within 30 s (ReadTimeout)"),
    "a reset": (fault("lost_reply"), "the connection broke (ReadError)"),
    "no connection": (failure(httpx.ConnectError), "not sent: no connection to the provider"),
    "a cut body": (fault("cut_body"), "the connection broke (RemoteProtocolError)"),
    "HTML": (fault("html_body"), "HTTP 200 with a body that is not Stripe's"),
    "no has_more": (answer(200, {"object": "list", "data": []}), "HTTP 200 with a body that is not Stripe's"),
    "not a list": (answer(200, {"has_more": False}), "HTTP 200 with a body that is not Stripe's"),
    "foreign JSON": (answer(200, {"data": [], "has_more": False}), "HTTP 200 with a body that is not Stripe's"),
    "another list": (
        answer(200, listed("/v1/refunds", [], has_more=False)),
        "HTTP 200 with a body that is not Stripe's",
    ),
    "the other list": (the_other_list, "HTTP 200 with a body that is not Stripe's"),
    "an answer to a send": (headed(**{"Idempotency-Key": "pc1_x"}), "HTTP 200 with a body that is not Stripe's"),
    "an answer from a cache": (headed(Age="1"), "HTTP 200 with a body that is not Stripe's"),
}
FEW = ["500", "429 with Retry-After", "a timeout", "a cut body", "HTML"]
ONE_OR_THE_OTHER = [(kind, LISTS[number % 2]) for number, kind in enumerate(TROUBLES)]
