"""The errors that Stripe answers with, as exceptions whose bodies are built in one place.

Who raises which of them is decided elsewhere.
"""

from gateway_client.sandbox.wire import Json

DOCS_URL = "https://stripe.com/docs/error-codes/"


class Refusal(Exception):
    """An answer other than 200. `saved` says whether the idempotency layer keeps it (STRIPE.md §1.2 and 1.3)."""

    def __init__(self, status: int, error: Json, *, saved: bool = False, headers: dict[str, str] | None = None) -> None:
        super().__init__(error.get("message"))
        self.status = status
        self.error = error
        self.saved = saved
        self.headers = headers or {}


def invalid(
    message: str,
    *,
    param: str | None = None,
    code: str | None = None,
    status: int = 400,
    payment_intent: Json | None = None,
) -> Refusal:
    """An `invalid_request_error`: nothing was executed, nothing is saved."""
    error: Json = {"message": message, "type": "invalid_request_error"}
    if code is not None:
        error |= {"code": code, "doc_url": DOCS_URL + code.replace("_", "-")}
    if param is not None:
        error["param"] = param
    if payment_intent is not None:
        error["payment_intent"] = payment_intent
    return Refusal(status, error)


def absent_here(name: str) -> Refusal:
    """Stripe knows this parameter and the sandbox does not: refused, for ignoring it would be a wrong answer."""
    return invalid(f"The sandbox does not support `{name}` (Stripe does). Leave it out.", param=name)


def missing_object(kind: str, object_id: str, *, param: str, status: int = 400) -> Refusal:
    """An id that names nothing."""
    return invalid(f"No such {kind}: '{object_id}'", param=param, code="resource_missing", status=status)


def unexpected_state(message: str, payment_intent: Json | None) -> Refusal:
    """The payment intent's status does not allow this."""
    return invalid(message, code="payment_intent_unexpected_state", payment_intent=payment_intent)


def unknown_url(method: str, path: str) -> Refusal:
    return invalid(
        f"Unrecognized request URL ({method}: {path}). Please see https://stripe.com/docs or we can help at "
        "https://support.stripe.com/.",
        status=404,
    )


def card_error(error: Json) -> Refusal:
    """A decline: 402, and saved, because it was executed."""
    return Refusal(402, {**error, "type": "card_error"}, saved=True)


def key_reused(key: str) -> Refusal:
    message = (
        "Keys for idempotent requests can only be used with the same parameters they were first used with. "
        f"Try using a key other than '{key}' if you meant to execute a different request."
    )
    return Refusal(400, {"message": message, "type": "idempotency_error"})


def key_in_use(key: str) -> Refusal:
    message = (
        "There is currently another in-progress request using this Idempotent Key (that probably means you submitted "
        f"twice, and the other request is still going through): {key}. Please try again later."
    )
    code = "idempotency_key_in_use"
    error = {"code": code, "doc_url": DOCS_URL + code.replace("_", "-"), "message": message}
    return Refusal(409, {**error, "type": "idempotency_error"}, headers={"Stripe-Should-Retry": "true"})


def unauthorized(message: str, *, code: str | None = None) -> Refusal:
    refusal = invalid(message, status=401, code=code)
    refusal.headers["WWW-Authenticate"] = 'Bearer realm="Stripe"'
    return refusal


def forbidden(permission: str, account_id: str | None) -> Refusal:
    """A restricted key without a permission. Stripe names the account that the key is of (STRIPE.md §2)."""
    on_account = "" if account_id is None else f" on account '{account_id}'"
    return invalid(
        "The provided key 'rk_test_****' does not have the required permissions for this endpoint"
        f"{on_account}. Having the '{permission}' permission would allow this request to continue.",
        status=403,
    )


def account_may_not_charge() -> Refusal:
    """A refusal of the account and not of the charge: it names no parameter."""
    return invalid("Your account cannot currently make live charges.")


def rejected(path: str) -> Refusal:
    """What a part of the provider says that does not know the object yet which the request names."""
    named = path.split("/")[3:4]
    if not named:
        return missing_object("PaymentMethod", "pm_1Sandbox", param="payment_method")
    return missing_object("payment_intent", named[0], param="intent")


def rate_limited() -> Refusal:
    """Answered before the idempotency layer. Stripe documents no `Retry-After` (STRIPE.md §4)."""
    refusal = invalid("Request rate limit exceeded.", status=429, code="rate_limit")
    refusal.headers["Stripe-Rate-Limited-Reason"] = "global-rate"
    return refusal


def unavailable() -> Refusal:
    return Refusal(503, {"message": "The service is temporarily unavailable.", "type": "api_error"})


def server_error(*, saved: bool = True) -> Refusal:
    """The indeterminate one, without `Stripe-Should-Retry`: Stripe does not say whether asking again would help."""
    return Refusal(500, {"message": "An unknown error occurred", "type": "api_error"}, saved=saved)
