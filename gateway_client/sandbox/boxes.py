"""What a box between the client and the provider answers in the provider's place: a filter, an edge, a captive portal.

The box knows nothing of the request: none of its answers echoes a key or carries an object of the provider's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway_client.sandbox.wire import Reply


@dataclass(frozen=True)
class BoxAnswer:
    """An answer that was not written by the provider. It is sent as it is, whatever the request was."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    def reply(self) -> Reply:
        """The answer as it arrives."""
        return Reply(self.status, tuple(self.headers.items()), self.body)


def page(status: int, title: str, text: str, **headers: str) -> BoxAnswer:
    """An HTML page. Names of headers are given with underscores."""
    body = f"<!doctype html><html><head><title>{title}</title></head><body><h1>{title}</h1><p>{text}</p></body></html>"
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    return BoxAnswer(status, body.encode(), {"Content-Type": "text/html; charset=utf-8", **more})


def _foreign(status: int, body: bytes) -> BoxAnswer:
    """JSON, and not the provider's."""
    return BoxAnswer(status, body, {"Content-Type": "application/json"})


BOX_ANSWERS: dict[str, tuple[str, BoxAnswer]] = {
    "filter_403_html": (
        "a web filter's 403, an HTML page",
        page(403, "Access denied", "This request was blocked by a web filter."),
    ),
    "filter_401_json": (
        "an identity proxy's 401, JSON that is not the provider's",
        _foreign(401, b'{"error": "unauthorized", "message": "Your session has expired."}'),
    ),
    "edge_429_html": (
        "an edge's 429, an HTML page with `Retry-After: 1`",
        page(429, "Too many requests", "You are being rate limited.", Retry_After="1"),
    ),
    "page_200_html": (
        "an error page with status 200",
        page(200, "Something went wrong", "Please try again in a few minutes."),
    ),
    "page_404": (
        "a 404, an HTML page",
        page(404, "Not found", "The page that you asked for does not exist."),
    ),
    "foreign_json_200": (
        "a 200 with JSON that is not the provider's",
        _foreign(200, b'{"status": "ok", "code": 0, "data": null}'),
    ),
}
"""Name of the fault -> (in words, the answer). Any other answer: `sandbox.box`, with `box_before` or `box_after`."""
