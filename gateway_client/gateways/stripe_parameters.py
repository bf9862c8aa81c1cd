"""What a create call may carry: a table of the other parameters that are passed to Stripe, and why the rest is not.

Passed is what moves no other money. `tests/test_parameters.py` compares the table with the API description, name by
name: what Stripe adds is refused until it is in the one list or the other. Not here: sizes and text (`intent.py`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from gateway_client.intent import OFF_SESSION, SUFFIX_MAX, descriptor_problem

ALWAYS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "confirm": "true",
        "automatic_payment_methods[enabled]": "true",
        "automatic_payment_methods[allow_redirects]": "never",
        "error_on_requires_action": "true",
    }
)
OPTIONAL: Final = ("description", "receipt_email", "statement_descriptor_suffix")
_FIELDS: Final = frozenset(("amount", "currency", "payment_method", "customer", *ALWAYS, *OPTIONAL))
_METADATA: Final = re.compile(r"metadata\[[^\[\]]+\]")

_KINDS = """
allowed_payment_method_types[#] text
amount_details[discount_amount] int
amount_details[enforce_arithmetic_validation] bool
amount_details[line_items][#][discount_amount] int
amount_details[line_items][#][product_code] text
amount_details[line_items][#][product_name] text
amount_details[line_items][#][quantity] int
amount_details[line_items][#][tax][total_tax_amount] int
amount_details[line_items][#][unit_cost] int
amount_details[line_items][#][unit_of_measure] text
amount_details[shipping][amount] int
amount_details[shipping][from_postal_code] text
amount_details[shipping][to_postal_code] text
amount_details[tax][total_tax_amount] int
excluded_payment_method_types[#] text
hooks[inputs][tax][calculation] text
mandate text
mandate_data[customer_acceptance][accepted_at] int
mandate_data[customer_acceptance][online][ip_address] text
mandate_data[customer_acceptance][online][user_agent] text
mandate_data[customer_acceptance][type] offline|online
payment_details[customer_reference] text
payment_details[order_reference] text
payment_method_configuration text
payment_method_options[acss_debit][mandate_options][custom_mandate_url] text
payment_method_options[acss_debit][mandate_options][interval_description] text
payment_method_options[acss_debit][mandate_options][payment_schedule] combined|interval|sporadic
payment_method_options[acss_debit][mandate_options][transaction_type] business|personal
payment_method_options[acss_debit][setup_future_usage] none|off_session|on_session
payment_method_options[acss_debit][target_date] text
payment_method_options[acss_debit][verification_method] automatic|instant|microdeposits
payment_method_options[au_becs_debit][setup_future_usage] none|off_session|on_session
payment_method_options[au_becs_debit][target_date] text
payment_method_options[bacs_debit][mandate_options][reference_prefix] text
payment_method_options[bacs_debit][setup_future_usage] none|off_session|on_session
payment_method_options[bacs_debit][target_date] text
payment_method_options[card][cvc_token] text
payment_method_options[card][installments][enabled] bool
payment_method_options[card][installments][plan][count] int
payment_method_options[card][installments][plan][interval] month
payment_method_options[card][installments][plan][type] bonus|fixed_count|revolving
payment_method_options[card][mandate_options][amount] int
payment_method_options[card][mandate_options][amount_type] fixed|maximum
payment_method_options[card][mandate_options][description] text
payment_method_options[card][mandate_options][end_date] int
payment_method_options[card][mandate_options][interval] day|month|sporadic|week|year
payment_method_options[card][mandate_options][interval_count] int
payment_method_options[card][mandate_options][reference] text
payment_method_options[card][mandate_options][start_date] int
payment_method_options[card][mandate_options][supported_types][#] india
payment_method_options[card][moto] bool
payment_method_options[card][network] text
payment_method_options[card][request_three_d_secure] any|automatic|challenge
payment_method_options[card][require_cvc_recollection] bool
payment_method_options[card][setup_credential_usage] installment|recurring|unscheduled
payment_method_options[card][setup_future_usage] none|off_session|on_session
payment_method_options[card][statement_descriptor_suffix_kana] text
payment_method_options[card][statement_descriptor_suffix_kanji] text
payment_method_options[card][stored_credential_usage] installment|recurring|unscheduled
payment_method_options[card][three_d_secure][ares_trans_status] A|C|I|N|R|U|Y
payment_method_options[card][three_d_secure][cryptogram] text
payment_method_options[card][three_d_secure][electronic_commerce_indicator] 01|02|05|06|07
payment_method_options[card][three_d_secure][exemption_indicator] low_risk|none
payment_method_options[card][three_d_secure][network_options][cartes_bancaires][cb_avalgo] 0|1|2|3|4|A
payment_method_options[card][three_d_secure][network_options][cartes_bancaires][cb_exemption] text
payment_method_options[card][three_d_secure][network_options][cartes_bancaires][cb_score] int
payment_method_options[card][three_d_secure][requestor_challenge_indicator] text
payment_method_options[card][three_d_secure][transaction_id] text
payment_method_options[card][three_d_secure][version] 1.0.2|2.1.0|2.2.0|2.3.0|2.3.1
payment_method_options[link][persistent_token] text
payment_method_options[link][setup_future_usage] none|off_session
payment_method_options[nz_bank_account][setup_future_usage] none|off_session|on_session
payment_method_options[nz_bank_account][target_date] text
payment_method_options[sepa_debit][mandate_options][reference_prefix] text
payment_method_options[sepa_debit][setup_future_usage] none|off_session|on_session
payment_method_options[sepa_debit][target_date] text
payment_method_options[us_bank_account][mandate_options][collection_method] paper
payment_method_options[us_bank_account][networks][requested][#] ach|us_domestic_wire
payment_method_options[us_bank_account][setup_future_usage] none|off_session|on_session
payment_method_options[us_bank_account][target_date] text
payment_method_options[us_bank_account][transaction_purpose] goods|other|services|unspecified
payment_method_options[us_bank_account][verification_method] automatic|instant|microdeposits
radar_options[referrer] text
radar_options[session] text
setup_future_usage off_session|on_session
shipping[address][city] text
shipping[address][country] text
shipping[address][line1] text
shipping[address][line2] text
shipping[address][postal_code] text
shipping[address][state] text
shipping[carrier] text
shipping[name] text
shipping[phone] text
shipping[tracking_number] text
statement_descriptor descriptor
transfer_group text
"""
PASSED: Final[Mapping[str, str]] = MappingProxyType(dict(line.split() for line in _KINDS.split("\n") if line))
"""Name → kind: text, int, bool, a statement descriptor, or one of some words. `#` stands for a number of a list."""

_NEEDS: Final = {
    "amount_details[line_items][#]": ("product_name", "quantity", "unit_cost"),
    "mandate_data[customer_acceptance]": ("type",),
    "mandate_data[customer_acceptance][online]": ("ip_address", "user_agent"),
    "payment_method_options[card][mandate_options]": ("amount", "amount_type", "interval", "reference", "start_date"),
    "payment_method_options[card][three_d_secure]": ("cryptogram", "transaction_id", "version"),
    "payment_method_options[card][three_d_secure][network_options][cartes_bancaires]": ("cb_avalgo",),
    "shipping": ("address", "name"),
}
"""What must be given as soon as anything beside it is."""

_OWN = "is a field of the intent: give it there"
_CONNECTED = "needs connected accounts, which are not supported"
_AT_ONCE = "is not passed on: the money is taken at once, never held and captured later"
_OURS = "is not yours to give: it is always the same in a charge from here"
_SCREEN = "is for a customer at the screen: a charge from here is never handed to one"
_BY_ID = "is not passed on: the payment method is named by its id, in payment_method"
_METHOD = "is not passed on: only the options of card, link and bank debits are, for the others redirect the customer"

REFUSED: Final[Mapping[str, str]] = MappingProxyType(
    {
        **dict.fromkeys("amount currency customer description metadata off_session".split(), _OWN),
        **dict.fromkeys("payment_method receipt_email statement_descriptor_suffix".split(), _OWN),
        **dict.fromkeys("application_fee_amount on_behalf_of transfer_data".split(), _CONNECTED),
        "capture_method": _AT_ONCE,
        **dict.fromkeys("automatic_payment_methods confirm confirmation_method".split(), _OURS),
        **dict.fromkeys("error_on_requires_action payment_method_types".split(), _OURS),
        **dict.fromkeys("return_url use_stripe_sdk".split(), _SCREEN),
        **dict.fromkeys("confirmation_token payment_method_data".split(), _BY_ID),
        "customer_account": "is not passed on: the payer is named by customer",
        "expand": "is not passed on: it changes the answer, not the charge",
    }
)
"""The other parameters of the create call, and why they are not passed."""

REFUSED_WITHIN: Final[Mapping[str, str]] = MappingProxyType(
    {
        r"payment_method_options\[\w+\]\[capture_method\]": _AT_ONCE,
        r"payment_method_options\[card\]\[request_(extended_authorization|incremental_authorization)\]": _AT_ONCE,
        r"payment_method_options\[card\]\[request_(multicapture|overcapture)\]": _AT_ONCE,
        r"payment_method_options\[us_bank_account\]\[financial_connections\].*": _SCREEN,
        r"amount_details\[line_items\]\[#\]\[payment_method_options\].*": _METHOD,
        r"mandate_data\[customer_acceptance\]\[offline\].*": "has no fields: leave it out",
    }
)
"""Names below those that are passed, as patterns, and why they are not."""

_METHODS: Final = {name.split("[")[1] for name in PASSED if name.startswith("payment_method_options[")}


def never_sent(form: Mapping[str, str]) -> bool:
    """Whether a form of ours holds a parameter, or a value of one, that is never sent from here."""
    others = {name: value for name, value in form.items() if name not in _FIELDS and not _METADATA.fullmatch(name)}
    return others.pop("off_session", "true") not in ("true", *OFF_SESSION) or problem(others) is not None


def problem(parameters: Mapping[str, object]) -> tuple[str, str] | None:
    """The first parameter that is not passed on as it is, and what is wrong with it; None if all are."""
    groups: dict[str, set[str]] = {}
    for name, value in parameters.items():
        shape = re.sub(r"\[\d+\]", "[#]", name)
        kind = PASSED.get(shape)
        wrong = _why_not(shape) if kind is None else _value_problem(kind, str(value))
        if wrong:
            return name, wrong
        for end in (found.start() for found in re.finditer(r"\[", name)):
            groups.setdefault(name[:end], set()).add(name[end + 1 :].partition("]")[0])
    for group, given in groups.items():
        for needed in _NEEDS.get(re.sub(r"\[\d+\]", "[#]", group), ()):
            if needed not in given:
                return group, f"needs {group}[{needed}]"
    return None


def _why_not(shape: str) -> str:
    root, *below = shape.replace("]", "").split("[")
    if root in REFUSED:
        return REFUSED[root]
    for pattern, why in REFUSED_WITHIN.items():
        if re.fullmatch(pattern, shape):
            return why
    if root == "payment_method_options" and below and below[0] not in _METHODS:
        return _METHOD
    return "is not a parameter that is passed to Stripe: see its spelling, and what it is nested in"


def _value_problem(kind: str, value: str) -> str:
    if kind in _CHECKS:
        return _CHECKS[kind](value)
    words = kind.split("|")
    return "" if value in words else f"must be one of {', '.join(words)}"


def _descriptor_problem(value: str) -> str:
    if len(value) > SUFFIX_MAX:
        return f"must have at most {SUFFIX_MAX} characters, not {len(value)}"
    return descriptor_problem(value)


_CHECKS: Final[Mapping[str, Callable[[str], str]]] = MappingProxyType(
    {
        "text": lambda _: "",
        "int": lambda value: "" if re.fullmatch("[0-9]{1,12}", value) else "must be a whole number, 0 or more",
        "bool": lambda value: "" if value in ("true", "false") else "must be true or false",
        "descriptor": _descriptor_problem,
    }
)
