"""The full bodies of the provider's objects, each with every field that Stripe returns.

When an object is made or changed is decided in `intents.py`.
"""

from gateway_client.sandbox.methods import Decline, PaymentMethod
from gateway_client.sandbox.refusal import DOCS_URL
from gateway_client.sandbox.wire import Json

API_VERSION = "2026-10-28.endive"


def account(account_id: str) -> Json:
    return {
        "id": account_id,
        "object": "account",
        "business_profile": {"mcc": None, "name": "Sandbox", "support_email": None, "url": None},
        "business_type": "company",
        "capabilities": {"card_payments": "active", "us_bank_account_ach_payments": "active"},
        "charges_enabled": True,
        "country": "US",
        "default_currency": "usd",
        "details_submitted": True,
        "email": None,
        "metadata": {},
        "payouts_enabled": True,
        "settings": {
            "dashboard": {"display_name": "Sandbox", "timezone": "Etc/UTC"},
            "payments": {"statement_descriptor": "SANDBOX"},
        },
        "type": "standard",
    }


def payment_intent(intent_id: str, created: int, secret: str) -> Json:
    """A new one, without what its request asked for."""
    return {
        "id": intent_id,
        "object": "payment_intent",
        "allowed_payment_method_types": None,
        "amount": 0,
        "amount_capturable": 0,
        "amount_details": {"tip": {}},
        "amount_received": 0,
        "application": None,
        "application_fee_amount": None,
        "automatic_payment_methods": {"allow_redirects": "always", "enabled": True},
        "canceled_at": None,
        "cancellation_reason": None,
        "capture_method": "automatic_async",
        "client_secret": f"{intent_id}_secret_{secret}",
        "confirmation_method": "automatic",
        "created": created,
        "currency": "usd",
        "customer": None,
        "customer_account": None,
        "description": None,
        "excluded_payment_method_types": None,
        "last_payment_error": None,
        "latest_charge": None,
        "livemode": False,
        "managed_payments": None,
        "metadata": {},
        "next_action": None,
        "on_behalf_of": None,
        "payment_method": None,
        "payment_method_configuration_details": None,
        "payment_method_options": {},
        "payment_method_types": ["card", "us_bank_account"],
        "payment_record": None,
        "processing": None,
        "receipt_email": None,
        "review": None,
        "setup_future_usage": None,
        "shipping": None,
        "source": None,
        "statement_descriptor": None,
        "statement_descriptor_suffix": None,
        "status": "requires_payment_method",
        "transfer_data": None,
        "transfer_group": None,
    }


def charge(charge_id: str, created: int, intent: Json, method_id: str, method: PaymentMethod) -> Json:
    """A charge that has been tried and not yet decided: `pending`. It copies the intent's metadata as it is now."""
    return {
        "id": charge_id,
        "object": "charge",
        "amount": intent["amount"],
        "amount_captured": 0,
        "amount_refunded": 0,
        "application": None,
        "application_fee": None,
        "application_fee_amount": None,
        "balance_transaction": None,
        "billing_details": {
            "address": dict.fromkeys(("city", "country", "line1", "line2", "postal_code", "state")),
            "email": None,
            "name": None,
            "phone": None,
            "tax_id": None,
        },
        "calculated_statement_descriptor": "SANDBOX",
        "captured": False,
        "created": created,
        "currency": intent["currency"],
        "customer": intent["customer"],
        "description": intent["description"],
        "disputed": False,
        "failure_balance_transaction": None,
        "failure_code": None,
        "failure_message": None,
        "fraud_details": {},
        "livemode": False,
        "metadata": dict(intent["metadata"]),
        "on_behalf_of": None,
        "outcome": None,
        "paid": False,
        "payment_intent": intent["id"],
        "payment_method": method_id,
        "payment_method_details": {"type": method.type, method.type: _details(intent["amount"], method)},
        "radar_options": {},
        "receipt_email": intent["receipt_email"],
        "receipt_number": None,
        "receipt_url": None,
        "refunded": False,
        "review": None,
        "shipping": intent["shipping"],
        "source": None,
        "source_transfer": None,
        "statement_descriptor": intent["statement_descriptor"],
        "statement_descriptor_suffix": intent["statement_descriptor_suffix"],
        "status": "pending",
        "transfer_data": None,
        "transfer_group": intent["transfer_group"],
    }


def _details(amount: int, method: PaymentMethod) -> Json:
    if method.bank:
        return {
            "account_holder_type": "individual",
            "account_type": "checking",
            "bank_name": "STRIPE TEST BANK",
            "fingerprint": f"sandbox{method.last4}",
            "last4": method.last4,
            "payment_reference": None,
            "routing_number": "110000000",
        }
    declined = method.decline is not None
    return {
        "amount_authorized": None if declined else amount,
        "authorization_code": None if declined else "123456",
        "brand": method.brand,
        "checks": {"address_line1_check": None, "address_postal_code_check": None, "cvc_check": "pass"},
        "country": method.country,
        "electronic_commerce_indicator": None,
        "exp_month": 8,
        "exp_year": 2035,
        "extended_authorization": {"status": "disabled"},
        "fingerprint": f"sandbox{method.brand}{method.last4}",
        "funding": method.funding,
        "incremental_authorization": {"status": "unavailable"},
        "installments": None,
        "last4": method.last4,
        "mandate": None,
        "multicapture": {"status": "unavailable"},
        "network": method.brand,
        "network_token": {"used": False},
        "network_transaction_id": None if declined else "104102978678771",
        "overcapture": {"maximum_amount_capturable": amount, "status": "unavailable"},
        "regulated_status": "unregulated",
        "three_d_secure": None,
        "transaction_link_id": None,
        "wallet": None,
    }


def outcome(decline: Decline | None, *, bank: bool) -> Json:
    """The charge's `outcome`: what the bank, or the provider's rules, said."""
    common: Json = {"advice_code": None, "network_advice_code": None, "network_decline_code": None}
    if decline is None:
        return common | {
            "network_status": "approved_by_network",
            "reason": None,
            "risk_level": "not_assessed" if bank else "normal",
            **({} if bank else {"risk_score": 12}),
            "seller_message": "Payment complete.",
            "type": "authorized",
        }
    return common | {
        "advice_code": decline.advice_code,
        "network_decline_code": decline.network_decline_code,
        "network_status": "not_sent_to_network" if decline.blocked else "declined_by_network",
        "reason": "highest_risk_level" if decline.blocked else decline.decline_code or decline.code,
        "risk_level": "highest" if decline.blocked else "normal",
        "seller_message": decline.message,
        "type": "blocked" if decline.blocked else "issuer_declined",
    }


def payment_error(decline: Decline, *, charge_id: str | None, method_id: str, method: PaymentMethod) -> Json:
    """The fields of a failed try: in the 402's error and in the intent's `last_payment_error`."""
    error: Json = {
        "advice_code": decline.advice_code,
        "charge": charge_id,
        "code": decline.code,
        "decline_code": decline.decline_code,
        "doc_url": DOCS_URL + decline.code.replace("_", "-"),
        "message": decline.message,
        "network_decline_code": decline.network_decline_code,
        "param": decline.param,
        "payment_method": {"id": method_id, "object": "payment_method", "livemode": False, "type": method.type},
        "type": "card_error",
    }
    return {field: value for field, value in error.items() if value is not None}


def next_action(return_url: str | None, intent_id: str) -> Json:
    """What the customer must do: go to the bank's page, or let Stripe's own script show it."""
    if return_url is None:
        return {"type": "use_stripe_sdk", "use_stripe_sdk": {"type": "three_d_secure_redirect"}}
    url = f"https://hooks.stripe.com/3d_secure_2/hosted?payment_intent={intent_id}"
    return {"type": "redirect_to_url", "redirect_to_url": {"return_url": return_url, "url": url}}
