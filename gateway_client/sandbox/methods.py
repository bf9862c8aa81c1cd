"""Stripe's documented test payment methods and what each of them does (https://docs.stripe.com/testing).

Only those whose behaviour the sandbox has: a method that disputes or fails a refund later is not here. The codes,
decline codes and messages are those that Stripe's test mode answers with.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Decline:
    """Why a try failed, in the fields of the error and of the failed charge."""

    code: str
    decline_code: str | None
    message: str
    advice_code: str | None = None
    param: str | None = None
    network_decline_code: str | None = None
    blocked: bool = False
    """Blocked by the provider's own rules: the bank was never asked."""


@dataclass(frozen=True)
class PaymentMethod:
    """One test payment method."""

    brand: str = "visa"
    last4: str = "4242"
    funding: Literal["credit", "debit", "prepaid"] = "credit"
    country: str = "US"
    decline: Decline | None = None
    """For a card at once; for a bank account when the debit comes back."""
    authentication: Literal["never", "always", "on_session"] = "never"
    bank: bool = False
    settles: bool = True
    """False: a debit that stays `processing` until it is cancelled."""

    @property
    def type(self) -> Literal["card", "us_bank_account"]:
        return "us_bank_account" if self.bank else "card"


GENERIC = Decline("card_declined", "generic_decline", "Your card was declined.", "try_again_later", None, "01")
INSUFFICIENT_FUNDS = Decline(
    "card_declined", "insufficient_funds", "Your card has insufficient funds.", "try_again_later", None, "51"
)
LOST = Decline("card_declined", "lost_card", "Your card was declined.", "do_not_try_again", None, "41")
STOLEN = Decline("card_declined", "stolen_card", "Your card was declined.", "do_not_try_again", None, "43")
EXPIRED = Decline("expired_card", "expired_card", "Your card has expired.", "confirm_card_data", "exp_month", "54")
INCORRECT_CVC = Decline(
    "incorrect_cvc", "incorrect_cvc", "Your card's security code is incorrect.", "confirm_card_data", "cvc", "N7"
)
PROCESSING_ERROR = Decline(
    "processing_error",
    "processing_error",
    "An error occurred while processing your card. Try again in a little bit.",
    "try_again_later",
    None,
    "96",
)
VELOCITY = Decline(
    "card_declined",
    "card_velocity_exceeded",
    "Your card was declined for making repeated attempts too frequently or exceeding its amount limit.",
    "try_again_later",
    None,
    "65",
)
FRAUDULENT = Decline("card_declined", "fraudulent", "Your card was declined.", blocked=True)
AUTHENTICATION_REQUIRED = Decline(
    "authentication_required",
    "authentication_required",
    "Your card was declined. This transaction requires authentication.",
)
AUTHENTICATION_NOT_HANDLED = Decline(
    "authentication_required",
    "authentication_not_handled",
    "This payment required an authentication action to complete, but `error_on_requires_action` was set.",
)


def _debit_failure(code: str, message: str) -> Decline:
    return Decline(code, None, message)


_BRANDS = {
    "pm_card_visa": PaymentMethod(),
    "pm_card_visa_debit": PaymentMethod(last4="5556", funding="debit"),
    "pm_card_mastercard": PaymentMethod("mastercard", "4444"),
    "pm_card_mastercard_debit": PaymentMethod("mastercard", "8210", "debit"),
    "pm_card_mastercard_prepaid": PaymentMethod("mastercard", "5100", "prepaid"),
    "pm_card_amex": PaymentMethod("amex", "8431"),
    "pm_card_discover": PaymentMethod("discover", "1117"),
    "pm_card_diners": PaymentMethod("diners", "0004"),
    "pm_card_jcb": PaymentMethod("jcb", "0505", country="JP"),
    "pm_card_unionpay": PaymentMethod("unionpay", "0005", country="CN"),
}

_COUNTRIES = (
    "ae ar at au be bg br by ca ch cn cy cz de dk ee es fi fr gb gi gr hk hr hu ie in it jp li lt lu lv mt mx my nl no "
    "nz pl pt ro se sg si sk us"
).split()

_DECLINES = {
    "pm_card_chargeDeclined": GENERIC,
    "pm_card_chargeDeclinedExpiredCard": EXPIRED,
    "pm_card_chargeDeclinedFraudulent": FRAUDULENT,
    "pm_card_chargeDeclinedIncorrectCvc": INCORRECT_CVC,
    "pm_card_chargeDeclinedInsufficientFunds": INSUFFICIENT_FUNDS,
    "pm_card_chargeDeclinedProcessingError": PROCESSING_ERROR,
    "pm_card_radarBlock": FRAUDULENT,
    "pm_card_visa_chargeDeclined": GENERIC,
    "pm_card_visa_chargeDeclinedInsufficientFunds": INSUFFICIENT_FUNDS,
    "pm_card_visa_chargeDeclinedLostCard": LOST,
    "pm_card_visa_chargeDeclinedStolenCard": STOLEN,
    "pm_card_visa_chargeDeclinedVelocityLimitExceeded": VELOCITY,
    "pm_card_chargeCustomerFail": GENERIC,
}

_AUTHENTICATION = {
    "pm_card_authenticationRequired": PaymentMethod(last4="3184", authentication="always"),
    "pm_card_authenticationRequiredOnSetup": PaymentMethod(last4="3155", authentication="always"),
    "pm_card_authenticationRequiredSetupForOffSession": PaymentMethod(last4="3155", authentication="on_session"),
    "pm_card_authenticationRequiredChargeDeclinedInsufficientFunds": PaymentMethod(
        last4="8341", authentication="always", decline=INSUFFICIENT_FUNDS
    ),
}

_BANKS = {
    # Without a suffix it is the account that pays: the short name of Stripe's first examples.
    "pm_usBankAccount": PaymentMethod(bank=True, last4="6789"),
    "pm_usBankAccount_success": PaymentMethod(bank=True, last4="6789"),
    "pm_usBankAccount_accountClosed": PaymentMethod(
        bank=True, last4="1113", decline=_debit_failure("account_closed", "The customer's bank account is closed.")
    ),
    "pm_usBankAccount_noAccount": PaymentMethod(
        bank=True, last4="1116", decline=_debit_failure("no_account", "The bank account could not be located.")
    ),
    "pm_usBankAccount_insufficientFunds": PaymentMethod(
        bank=True,
        last4="2227",
        decline=_debit_failure("insufficient_funds", "The bank account has insufficient funds."),
    ),
    "pm_usBankAccount_debitNotAuthorized": PaymentMethod(
        bank=True,
        last4="3335",
        decline=_debit_failure("debit_not_authorized", "The customer says that they did not authorize this debit."),
    ),
    "pm_usBankAccount_processing": PaymentMethod(bank=True, last4="0009", settles=False),
}

TEST_METHODS: dict[str, PaymentMethod] = {
    **_BRANDS,
    **{f"pm_card_{country}": PaymentMethod(country=country.upper()) for country in _COUNTRIES},
    **{method: PaymentMethod(last4="0002", decline=decline) for method, decline in _DECLINES.items()},
    **_AUTHENTICATION,
    **_BANKS,
}
"""Id -> behaviour. Data, never changed."""
