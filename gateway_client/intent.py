"""What the caller decided to charge, and the idempotency key of each attempt at it.

Everything that can be wrong with an intent is found here, before a row is written. Not here: the request's body, which
is the gateway's, and whether an attempt may be made, which is the store's.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, Literal

from gateway_client.errors import InvalidInput
from gateway_client.money import Money, shown
from gateway_client.never_kept import contains_card_number, contains_secret_key

INTENT_ID_MAX: Final = 128
PROVIDER_ID_MAX: Final = 255  # Stripe, "Changes that we consider backwards-compatible": ids never exceed 255 characters
DESCRIPTION_MAX: Final = 1000
EMAIL_MAX: Final = 512
SUFFIX_MAX: Final = 22  # docs.stripe.com/payments/account/statement-descriptors
METADATA_MAX: Final = 46  # Stripe keeps 50; four are ours
METADATA_NAME_MAX: Final = 40
METADATA_VALUE_MAX: Final = 500
PARAMETERS_MAX: Final = 100
PARAMETER_DEPTH_MAX: Final = 6
PARAMETER_VALUE_MAX: Final = 5000
PARAMETER_CHARACTERS_MAX: Final = 20_000  # names and values together: a row holds them
OFF_SESSION: Final = ("one_off", "recurring")
OUR_PREFIX: Final = "paycli_"
"""Metadata names that begin so are written by this library: reconciliation finds its charges by them."""

_UNPRINTABLE: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_UNPRINTABLE_IN_TEXT: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")  # a tab or newline is text
_ASCII: Final = re.compile("[ -~]*")
_ASCII_NO_SPACE: Final = re.compile("[!-~]*")
_NAMESPACE: Final = re.compile("[a-z0-9-]{1,40}")
_PARAMETER: Final = re.compile(r"[a-z0-9_]{1,60}(?:\[[a-z0-9_]{1,60}\])*")
_EMAIL: Final = re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+")  # plausible, not RFC 5322: only delivery can tell


class Texts(Mapping[str, str]):
    """A read-only copy of what the caller gave, sorted by name, so that equal intents make the same request."""

    __slots__ = ("_items",)
    _items: dict[str, str]

    def __init__(self, items: Mapping[str, str]) -> None:
        self._items = dict(sorted(items.items()))

    def __getitem__(self, name: str) -> str:
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return hash(frozenset(self._items.items()))

    def __repr__(self) -> str:
        return f"Texts({self._items!r})"


@dataclass(frozen=True, slots=True)
class PaymentIntent:
    """The decision to take one payment, once: `PaymentIntent("order_42", Money(1999, "usd"), "pm_…")`.

    - `intent_id`: your stable reference, 1–128 printable ASCII characters; one purchase always gets the same one.
    - `amount`: what to charge. `payment_method`, `customer`: the provider's ids.
    - `off_session`: the customer is not at the screen; needs `customer`. True, "one_off" or "recurring".
    - `not_after`: the latest moment at which it may first be sent, an aware datetime; None: as long as it is prepared.
    - `description` (at most 1000 characters), `receipt_email` (512), `statement_descriptor_suffix` (22) and `metadata`
      (46 entries, names of 40 and values of 500 characters) are passed on. What may be personal is not in `repr`.
    - `parameters`: others of the provider's create call, nested as there: `{"shipping": {"name": "Ada", …}}`, or by
      their names in the form, `{"shipping[name]": "Ada"}`, as they are kept. At most 100 values of 5000 characters,
      20,000 in all. The gateway says which it passes on, and refuses the others before anything is written.

    Raises InvalidInput, which names the field; a card number in any field is refused and never repeated. Sources:
    Stripe's reference of "Create a PaymentIntent", docs.stripe.com/metadata,
    docs.stripe.com/payments/account/statement-descriptors; for card numbers PCI DSS, requirement 3.
    """

    intent_id: str
    amount: Money
    payment_method: str
    _: KW_ONLY
    customer: str | None = None
    off_session: bool | Literal["one_off", "recurring"] = False
    not_after: datetime | None = None
    description: str | None = field(default=None, repr=False)
    receipt_email: str | None = field(default=None, repr=False)
    statement_descriptor_suffix: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict, repr=False)
    parameters: Mapping[str, object] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        _check("intent_id", self.intent_id, INTENT_ID_MAX, _intent_id_problem)
        if not isinstance(self.amount, Money):
            raise InvalidInput("amount", f'must be Money, such as Money(1999, "usd"), not {type(self.amount).__name__}')
        _check("payment_method", self.payment_method, PROVIDER_ID_MAX, _provider_id_problem)
        if self.customer is not None:
            _check("customer", self.customer, PROVIDER_ID_MAX, _provider_id_problem)
        if type(self.off_session) is not bool and (
            type(self.off_session) is not str or self.off_session not in OFF_SESSION
        ):
            raise InvalidInput("off_session", 'must be True, False, "one_off" or "recurring"')
        if self.off_session and self.customer is None:
            raise InvalidInput("off_session", "needs a customer, whose saved payment method is charged")
        if self.not_after is not None:
            object.__setattr__(self, "not_after", _checked_time(self.not_after))
        if self.description is not None:
            _check("description", self.description, DESCRIPTION_MAX, _text_problem)
        if self.receipt_email is not None:
            _check("receipt_email", self.receipt_email, EMAIL_MAX, _email_problem)
        if self.statement_descriptor_suffix is not None:
            _check("statement_descriptor_suffix", self.statement_descriptor_suffix, SUFFIX_MAX, descriptor_problem)
        object.__setattr__(self, "metadata", _checked_metadata(self.metadata))
        object.__setattr__(self, "parameters", _checked_parameters(self.parameters))


@lru_cache(maxsize=1024)  # the gate computes it again for what a claim has just frozen
def _key_of(*parts: str) -> str:
    digest = hashlib.sha256()
    for part in parts:
        encoded = part.encode()
        digest.update(b"%d:" % len(encoded) + encoded)
    return "pc1_" + base64.b32encode(digest.digest()).decode().rstrip("=").lower()


def idempotency_key(
    *, provider: str, mode: str, account: str, namespace: str, operation: str, intent_id: str, attempt: int
) -> str:
    """The key of one attempt: 56 characters, the same in every process and for ever.

    "pc1_" and the base32 of SHA-256 over the seven fields, each after its length in bytes, so that ("ab", "c") and
    ("a", "bc") differ. No clock, chance, amount or API key goes in: a lost row computes the same key again. `pc1` never
    changes, else an attempt in doubt would be sent under a second key. Raises InvalidInput("attempt").
    """
    check_attempt(attempt)
    return _key_of(provider, mode, account, namespace, operation, intent_id, str(attempt))


def check_attempt(attempt: int) -> None:
    """Raise InvalidInput("attempt") unless it is exactly an int of 1 or more: the key spells it in digits."""
    if type(attempt) is not int:
        raise InvalidInput("attempt", f"must be an int, not {type(attempt).__name__}")
    if attempt < 1:
        raise InvalidInput("attempt", "counts from 1")


def check_namespace(namespace: str) -> None:
    """Raise InvalidInput("namespace") unless it is 1 to 40 of a-z, 0-9 and '-': it goes into key and metadata."""
    if type(namespace) is not str or not _NAMESPACE.fullmatch(namespace):
        raise InvalidInput("namespace", "must be 1 to 40 of the characters a-z, 0-9 and '-'")


def check_intent_id(value: str) -> None:
    """Raise InvalidInput("intent_id") unless it can be an intent's id."""
    _check("intent_id", value, INTENT_ID_MAX, _intent_id_problem)


def check_text(name: str, value: str) -> None:
    """Raise InvalidInput(name) unless it is a sentence that may be stored and shown: a person's reason, say."""
    _check(name, value, DESCRIPTION_MAX, _line_problem)


def differences(
    intent: PaymentIntent, *, amount: int, currency: str, customer: str | None, payment_method: str | None
) -> tuple[str, ...]:
    """Say how an intent differs from what is stored for its id, one sentence each; () if it is the same payment.

    The payment method belongs to the attempt: None says that this attempt may have another one. Description, e-mail,
    metadata, parameters and `not_after` may differ; those stored with the attempt count.
    """
    found = []
    if intent.amount.amount != amount:
        found.append(f"amount was {shown(amount, currency)}, now {intent.amount}")
    if intent.amount.currency != currency:
        found.append(f"currency was {currency.upper()}, now {intent.amount.currency.upper()}")
    if intent.customer != customer:
        found.append(f"customer was {customer or 'none'}, now {intent.customer or 'none'}")
    if payment_method is not None and intent.payment_method != payment_method:
        found.append(f"payment method was {payment_method}, now {intent.payment_method}")
    return tuple(found)


# Checks of one value: each says what is wrong with it, or "" if nothing is, and never repeats the value.


def _check(name: str, value: str, length_max: int, problem_of: Callable[[str], str]) -> None:
    if type(value) is not str:  # exactly: a str enum is written as its member's name by some formatters, not its value
        raise InvalidInput(name, f"must be text, not {type(value).__name__}")
    if not value or value.isspace():
        raise InvalidInput(name, "must not be empty")
    if len(value) > length_max:
        raise InvalidInput(name, f"must have at most {length_max} characters, not {len(value)}")
    if contains_card_number(value):
        raise InvalidInput(name, "must not hold a card number, and seems to; a payment method is named by its id")
    if contains_secret_key(value):
        raise InvalidInput(name, "must not hold a secret key, and seems to: it would be stored")
    if problem := problem_of(value):
        raise InvalidInput(name, problem)


def _intent_id_problem(value: str) -> str:
    if not _ASCII.fullmatch(value):
        return "must be printable ASCII"
    if value != value.strip():
        return "must not begin or end with a space"
    # The provider's rules forbid personal data in keys, and ours are printed in logs and reports.
    return "must not be an e-mail address; use an order number" if "@" in value else ""


def _provider_id_problem(value: str) -> str:
    return "" if _ASCII_NO_SPACE.fullmatch(value) else "must be an id of printable ASCII without spaces"


def _line_problem(value: str) -> str:
    return "must not contain control characters or lone surrogates" if _UNPRINTABLE.search(value) else ""


def _text_problem(value: str) -> str:
    bad = _UNPRINTABLE_IN_TEXT.search(value)
    return "must not contain control characters (but tab and newline) or lone surrogates" if bad else ""


def _email_problem(value: str) -> str:
    return _line_problem(value) or ("" if _EMAIL.fullmatch(value) else "must be an e-mail address")


def descriptor_problem(value: str) -> str:
    # Stripe strips what is not Latin; refusing keeps what the cardholder reads what the caller wrote.
    if not _ASCII.fullmatch(value):
        return "must be printable ASCII: Stripe takes Latin characters only"
    if any(character in "<>\\'\"*" for character in value):
        return "must not contain any of < > \\ ' \" *"
    return "" if any(character.isalpha() for character in value) else "must contain at least one letter"


def _name_problem(name: str) -> str:
    if problem := _line_problem(name):
        return problem
    if "[" in name or "]" in name:
        return "must not contain '[' or ']', which the form encoding uses"
    return f"must not begin with {OUR_PREFIX}, which is ours" if name.startswith(OUR_PREFIX) else ""


def _checked_time(moment: datetime) -> datetime:
    if not isinstance(moment, datetime):
        raise InvalidInput("not_after", f"must be a datetime, not {type(moment).__name__}")
    if moment.utcoffset() is None:
        raise InvalidInput("not_after", "must have a time zone: a datetime without one is another moment elsewhere")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise InvalidInput("not_after", "is beyond what a date can be") from None


def _checked_metadata(metadata: Mapping[str, str]) -> Texts:
    if not isinstance(metadata, Mapping):
        raise InvalidInput("metadata", f"must be a mapping of text to text, not {type(metadata).__name__}")
    copied = dict(metadata)
    if len(copied) > METADATA_MAX:
        raise InvalidInput("metadata", f"has {len(copied)} entries; at most {METADATA_MAX} are allowed")
    for name, value in copied.items():
        try:
            _check("metadata", name, METADATA_NAME_MAX, _name_problem)
        except InvalidInput as error:
            raise InvalidInput("metadata", f"a name {error.problem}") from None
        _check(f"metadata[{name}]", value, METADATA_VALUE_MAX, _text_problem)
    return Texts(copied)


def _checked_parameters(parameters: Mapping[str, object]) -> Texts:
    if not isinstance(parameters, Mapping):
        raise InvalidInput("parameters", f"must be a mapping, not {type(parameters).__name__}")
    flat: dict[str, str] = {}
    size = 0
    for name, value in _flattened(parameters, ()):
        if name in flat:
            raise InvalidInput(name, "is given twice")
        if not isinstance(value, str | int):
            raise InvalidInput(name, f"must be text, a whole number, True or False, not {type(value).__name__}")
        text = value if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)
        _check(name, text, PARAMETER_VALUE_MAX, _text_problem)
        flat[name] = text
        size += len(name) + len(text)
        if len(flat) > PARAMETERS_MAX or size > PARAMETER_CHARACTERS_MAX:
            words = f"at most {PARAMETERS_MAX} values, and {PARAMETER_CHARACTERS_MAX} characters in all, are allowed"
            raise InvalidInput("parameters", words)
    return Texts(flat)


def _flattened(value: object, path: tuple[str, ...]) -> Iterator[tuple[str, object]]:
    """Every value that holds no others, under its name in a form: `shipping[name]`, `types[0]`."""
    if isinstance(value, Mapping):
        below = list(value.items())
    elif isinstance(value, list | tuple):
        below = [(str(number), inner) for number, inner in enumerate(value)]
    else:
        yield _parameter_name(path), value
        return
    if len(path) >= PARAMETER_DEPTH_MAX:
        raise InvalidInput("parameters", f"must not be more than {PARAMETER_DEPTH_MAX} deep")
    if not below and path:
        raise InvalidInput(_parameter_name(path), "must not be empty")
    for name, inner in below:
        if type(name) is not str or (path and "[" in name):
            raise InvalidInput("parameters", "has a name that is no text, or has '[' within another")
        yield from _flattened(inner, (*path, name))


def _parameter_name(path: tuple[str, ...]) -> str:
    name = path[0] + "".join(f"[{step}]" for step in path[1:])
    if not _PARAMETER.fullmatch(name) or name.count("[") >= PARAMETER_DEPTH_MAX or contains_card_number(name):
        raise InvalidInput("parameters", "has a name that no parameter has: a-z, 0-9 and '_', nested as in a[b][c]")
    return name
