"""Parameters of a create call that move no money: accepted, and echoed in the objects as Stripe echoes them.

Their values are believed: what the sandbox would have to act upon (a later capture) it refuses.
"""

from typing import TypeAlias

from gateway_client.sandbox.form import Form, Tree
from gateway_client.sandbox.refusal import absent_here, invalid
from gateway_client.sandbox.wire import Json

Typed: TypeAlias = "str | int | bool | list[Typed] | dict[str, Typed]"

_FIELDS = {
    "amount_details": "discount_amount enforce_arithmetic_validation line_items shipping tax",
    "hooks": "inputs",
    "payment_details": "customer_reference order_reference",
    "payment_method_options": (
        "acss_debit au_becs_debit bacs_debit card link nz_bank_account sepa_debit us_bank_account"
    ),
    "shipping": "address carrier name phone tracking_number",
}
_ADDRESS = ("city", "country", "line1", "line2", "postal_code", "state")
_CARD = {"installments": None, "mandate_options": None, "network": None, "request_three_d_secure": "automatic"}
_MANDATE_OPTIONS = dict.fromkeys(("description", "end_date", "interval_count", "supported_types"))
_NUMBERS = frozenset("amount count discount_amount end_date interval_count start_date total_tax_amount".split())
_SWITCHES = ("enabled", "require_cvc_recollection")
_WRITE_ONLY = ("cvc_token", "enforce_arithmetic_validation", "line_items", "moto", "networks", "three_d_secure")
"""Taken, and shown in no object (line items only when they are asked for)."""

_HOLDS = frozenset(
    (
        "capture_method request_extended_authorization request_incremental_authorization request_multicapture "
        "request_overcapture"
    ).split()
)


def echoed(form: Form) -> Json:
    """The fields of a new payment intent that say again what the request said."""
    fields: Json = {
        "setup_future_usage": form.choice("setup_future_usage", ("off_session", "on_session")),
        "transfer_group": form.text("transfer_group"),
    }
    for name in ("allowed_payment_method_types", "excluded_payment_method_types"):
        fields[name] = list(form.strings(name)) or None
    form.text("payment_method_configuration")
    given = {name: branch.tree for name, known in _FIELDS.items() if (branch := form.branch(name, known=known.split()))}
    for name, tree in given.items():
        fields[name] = _typed(tree, name)
    if "amount_details" in given:
        fields["amount_details"] = {"tip": {}, **fields["amount_details"]}
    if "payment_details" in given:
        fields["payment_details"] = {"customer_reference": None, "order_reference": None, **fields["payment_details"]}
    if "shipping" in given:
        fields["shipping"] = _shipping(form)
    if "payment_method_options" in given:
        _options(given["payment_method_options"], fields["payment_method_options"])
    return fields


def _shipping(form: Form) -> Json:
    branch = form.branch("shipping", known=_FIELDS["shipping"].split())
    address = branch and branch.branch("address", known=_ADDRESS)
    if not branch or not address:
        raise invalid("Missing required param: shipping[address].", param="shipping[address]", code="parameter_missing")
    others = {name: branch.text(name) for name in ("carrier", "phone", "tracking_number")}
    return {"address": {name: address.text(name) for name in _ADDRESS}, "name": branch.required("name"), **others}


def _options(tree: Tree, options: Json) -> None:
    for method, below in tree.items():
        for name in below if isinstance(below, dict) else ():
            if name in _HOLDS:
                raise absent_here(f"payment_method_options[{method}][{name}]")
    if "link" in options:
        options["link"] = {"persistent_token": None, **options["link"]}
    if "card" in options:
        card = options["card"] = {**_CARD, **options["card"]}
        if card["mandate_options"] is not None:
            card["mandate_options"] = {**_MANDATE_OPTIONS, **card["mandate_options"]}
        if card["installments"] is not None:
            card["installments"] = {"available_plans": None, "enabled": True, "plan": None, **card["installments"]}


def _typed(value: "str | Tree", name: str) -> Typed:
    """Form values are text: what the objects hold as numbers, switches and lists."""
    if isinstance(value, str):
        if name in _SWITCHES:
            return value == "true"
        return int(value) if name in _NUMBERS and value.isascii() and value.isdigit() else value
    if value and all(step.isdigit() for step in value):
        return [_typed(below, step) for step, below in value.items()]
    return {step: _typed(below, step) for step, below in value.items() if step not in _WRITE_ONLY}
