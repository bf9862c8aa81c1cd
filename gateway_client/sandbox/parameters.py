"""What the three POST endpoints accept, value by value: types, limits, and which parameters need which others.

How names and brackets are read is told in `form.py`; what the values do, in `intents.py`.
"""

from dataclasses import dataclass

from gateway_client.sandbox.echoed import echoed
from gateway_client.sandbox.form import Form
from gateway_client.sandbox.refusal import absent_here, invalid, missing_object
from gateway_client.sandbox.wire import Json

AMOUNT_MAX = 999_999_999_999
"""At most 12 digits, in any currency: Stripe's greatest and least differ by currency and account. The least is 1."""

CURRENCIES = frozenset(
    (
        "aed afn all amd ang aoa ars aud awg azn bam bbd bdt bgn bhd bif bmd bnd bob brl bsd btn bwp byn bzd cad cdf "
        "chf clp cny cop crc cve czk djf dkk dop dzd egp etb eur fjd fkp gbp gel gip gmd gnf gtq gyd hkd hnl htg huf "
        "idr ils inr isk jmd jod jpy kes kgs khr kmf krw kwd kyd kzt lak lbp lkr lrd lsl mad mdl mga mkd mmk mnt mop "
        "mur mvr mwk mxn myr mzn nad ngn nio nok npr nzd omr pab pen pgk php pkr pln pyg qar ron rsd rub rwf sar sbd "
        "scr sek sgd shp sle sos srd std szl thb tjs tnd top try ttd twd tzs uah ugx usd uyu uzs vnd vuv wst xaf xcd "
        "xcg xof xpf yer zar zmw"
    ).split()
)

CREATE_PARAMETERS = (
    "allowed_payment_method_types amount amount_details automatic_payment_methods capture_method confirm "
    "confirmation_method currency customer description error_on_requires_action excluded_payment_method_types expand "
    "hooks mandate mandate_data metadata off_session payment_details payment_method payment_method_configuration "
    "payment_method_options radar_options receipt_email return_url setup_future_usage shipping statement_descriptor "
    "statement_descriptor_suffix transfer_group"
).split()

CREATE_PARAMETERS_ABSENT = (
    "application_fee_amount confirmation_token customer_account on_behalf_of payment_method_data transfer_data "
    "use_stripe_sdk"
).split()

CONFIRM_PARAMETERS = "error_on_requires_action expand off_session payment_method receipt_email return_url".split()

CONFIRM_PARAMETERS_ABSENT = (
    "allowed_payment_method_types amount_details amount_to_confirm capture_method confirmation_token "
    "excluded_payment_method_types hooks mandate mandate_data payment_details payment_method_data "
    "payment_method_options radar_options setup_future_usage shipping use_stripe_sdk"
).split()

CANCEL_PARAMETERS = ("cancellation_reason", "expand")
CANCELLATION_REASONS = ("abandoned", "duplicate", "fraudulent", "requested_by_customer")

ONLY_WITH_CONFIRM = ("error_on_requires_action", "mandate", "mandate_data", "off_session", "return_url")


@dataclass(frozen=True)
class ConfirmParameters:
    """How to confirm: the parameters of a confirmation, or of a create call that confirms at once."""

    payment_method: str | None
    error_on_requires_action: bool
    off_session: bool
    return_url: str | None
    receipt_email: str | None
    mandate: str | None
    radar_session: str | None

    @classmethod
    def read(cls, form: Form) -> "ConfirmParameters":
        off_session = form.text("off_session")
        if off_session not in (None, "true", "false", "one_off", "recurring"):
            raise invalid(f"Invalid off_session: {off_session}", param="off_session")
        radar = form.branch("radar_options", known=("referrer", "session"))
        form.branch("mandate_data", known=("customer_acceptance",))
        return cls(
            form.text("payment_method"),
            form.boolean("error_on_requires_action"),
            off_session not in (None, "false"),
            form.text("return_url"),
            _email(form),
            form.text("mandate"),
            None if radar is None else radar.text("session"),
        )


@dataclass(frozen=True)
class CreateParameters:
    """A payment intent to be made, and confirmed at once when `confirmation` is given."""

    amount: int
    currency: str
    automatic_payment_methods: Json | None
    capture_method: str
    customer: str | None
    description: str | None
    metadata: dict[str, str]
    payment_method: str | None
    receipt_email: str | None
    statement_descriptor: str | None
    statement_descriptor_suffix: str | None
    echoed: Json
    confirmation: ConfirmParameters | None

    @classmethod
    def read(cls, form: Form) -> "CreateParameters":
        customer = form.text("customer")
        if customer is not None and not customer.startswith("cus_"):
            raise missing_object("customer", customer, param="customer")
        how = ConfirmParameters.read(form)
        confirms = form.boolean("confirm")
        for name in ONLY_WITH_CONFIRM:
            if name in form and not confirms:
                raise invalid(f"`{name}` can only be used when `confirm` is true.", param=name)
        if how.off_session and customer is None:
            raise invalid("`off_session` needs a `customer`.", param="customer", code="parameter_missing")
        return cls(
            amount=_amount(form),
            currency=_currency(form),
            automatic_payment_methods=_automatic(form),
            capture_method=_capture_method(form),
            customer=customer,
            description=form.text("description"),
            metadata=form.metadata(),
            payment_method=how.payment_method,
            receipt_email=how.receipt_email,
            statement_descriptor=form.text("statement_descriptor", characters_max=22),
            statement_descriptor_suffix=form.text("statement_descriptor_suffix", characters_max=22),
            echoed=echoed(form),
            confirmation=how if confirms else None,
        )

    def fields(self) -> Json:
        """The fields of a new payment intent that come from the request."""
        return {
            "amount": self.amount,
            "currency": self.currency,
            "automatic_payment_methods": self.automatic_payment_methods,
            "capture_method": self.capture_method,
            "customer": self.customer,
            "description": self.description,
            "metadata": self.metadata,
            "receipt_email": self.receipt_email,
            "statement_descriptor": self.statement_descriptor,
            "statement_descriptor_suffix": self.statement_descriptor_suffix,
            **self.echoed,
        }


def cancellation_reason(form: Form) -> str | None:
    return form.choice("cancellation_reason", CANCELLATION_REASONS)


def _amount(form: Form) -> int:
    form.required("amount")
    amount = form.integer("amount", least=1) or 0
    if amount > AMOUNT_MAX:
        raise invalid(f"Amount must be no more than {AMOUNT_MAX}.", param="amount", code="amount_too_large")
    return amount


def _currency(form: Form) -> str:
    currency = form.required("currency")
    if currency not in CURRENCIES:
        raise invalid(
            f"Invalid currency: {currency[:10]}. It must be a three-letter code that Stripe supports, in lower case.",
            param="currency",
        )
    return currency


def _automatic(form: Form) -> Json | None:
    """Enabled unless it is switched off, as in every API version since 2023-08-16."""
    given = form.branch("automatic_payment_methods", known=("allow_redirects", "enabled"))
    if given is None:
        return {"allow_redirects": "always", "enabled": True}
    given.required("enabled")
    redirects = given.choice("allow_redirects", ("always", "never")) or "always"
    return {"allow_redirects": redirects, "enabled": True} if given.boolean("enabled") else None


def _capture_method(form: Form) -> str:
    if form.choice("confirmation_method", ("automatic", "manual")) == "manual":
        raise absent_here("confirmation_method=manual")
    method = form.choice("capture_method", ("automatic", "automatic_async", "manual")) or "automatic_async"
    if method == "manual":
        raise absent_here("capture_method=manual")
    return method


def _email(form: Form) -> str | None:
    email = form.text("receipt_email", characters_max=800)
    if email is not None and "@" not in email:
        raise invalid(f"Invalid email address: {email}", param="receipt_email", code="email_invalid")
    return email
