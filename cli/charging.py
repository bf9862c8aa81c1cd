"""The commands that may ask the provider: charge, resume, cancel. What their words mean to people: `words.py`."""

from __future__ import annotations

import re
from contextlib import closing
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from cli import output, words
from cli.settings import Settings, open_client, open_store, read_settings

if TYPE_CHECKING:
    from gateway_client import Charge, Money

IntentId = Annotated[
    str, typer.Argument(metavar="INTENT_ID", help="Your stable reference of the payment, such as order_42.")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


def charge(
    intent_id: IntentId,
    amount: Annotated[str, typer.Option(metavar="N", help="In minor units: 1999 is 19.99 USD.")],
    currency: Annotated[str, typer.Option(metavar="CODE", help="ISO 4217, such as usd.")],
    payment_method: Annotated[str, typer.Option(metavar="ID", help="The provider's id, such as pm_card_visa.")],
    attempt: Annotated[
        int | None, typer.Option(metavar="N", help="Which attempt; n+1 only after a refusal. Default: the newest.")
    ] = None,
    customer: Annotated[str | None, typer.Option(metavar="ID", help="The provider's id, such as cus_….")] = None,
    off_session: Annotated[
        bool, typer.Option("--off-session", help="The customer is not at the screen; needs --customer.")
    ] = False,
    off_session_as: Annotated[
        str | None, typer.Option(metavar="KIND", help="The same, and which kind: one_off or recurring.")
    ] = None,
    not_after: Annotated[
        str | None, typer.Option(metavar="TIME", help="The latest moment of its first send: 2026-11-20T18:00:00Z.")
    ] = None,
    description: Annotated[str | None, typer.Option(metavar="TEXT", help="Kept by the provider.")] = None,
    receipt_email: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Where the provider sends a receipt.")
    ] = None,
    statement_descriptor_suffix: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What the cardholder reads; at most 22 characters.")
    ] = None,
    metadata: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Kept by the provider; may be repeated.")
    ] = None,
    param: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Another parameter of the provider's create call, such as shipping[name]=Ada; may be repeated.",
        ),
    ] = None,
    as_json: Json = False,
) -> int:
    """Charge an intent once. Repeating the command, after any crash, never charges it twice.

    Exit code: 0 only when it succeeded; 3 when nothing was executed (prepared); 1 for every other state.
    """
    from gateway_client import PaymentIntent, State

    intent = PaymentIntent(
        intent_id,
        _money(amount, currency),
        payment_method,
        customer=customer,
        off_session=off_session if off_session_as is None else cast('Literal["one_off", "recurring"]', off_session_as),
        not_after=None if not_after is None else _moment("not_after", not_after),
        description=description,
        receipt_email=receipt_email,
        statement_descriptor_suffix=statement_descriptor_suffix,
        metadata=_pairs("metadata", metadata or []),
        parameters=_pairs("param", param or []),
    )
    with open_client(read_settings()) as client:
        charged = client.charge(intent, attempt=attempt)
    _print(charged, as_json)
    return {State.SUCCEEDED: 0, State.PREPARED: 3}.get(charged.state, 1)


def resume(
    limit: Annotated[int | None, typer.Option(metavar="N", help="Look at so many charges at most.")] = None,
    as_json: Json = False,
) -> int:
    """Finish what is pending, as far as it can be now.

    Prints each charge that it looked at, as it is afterwards.

    Exit code: 0 when nothing pending is left; 1 when something is; 3 when the provider or database could not be asked,
    or the provider refuses the account.
    """
    settings = read_settings()
    with open_client(settings) as client:
        looked_at = client.resume(limit, on_charge=lambda each: _print_line(each, as_json))
    left = pending_left(settings)
    finished = sum(not each.pending for each in looked_at)
    still = "something is still pending: see `paycli pending`" if left else "nothing is pending"
    output.say(f"looked at {len(looked_at)}, finished {finished}; {still}")
    return 1 if left else 0


def pending_left(settings: Settings) -> bool:
    """True while any charge is pending."""
    from gateway_client.store.reading import read_page

    with closing(open_store(settings)) as database:
        return bool(database.transact(lambda tx: read_page(tx, None, 1), write=False))


def cancel(
    intent_id: IntentId,
    because: Annotated[str, typer.Option(metavar="TEXT", help="Why; kept in the history.")],
    as_json: Json = False,
) -> int:
    """Give the newest attempt of an intent up, safely. It never moves money, and never gives any back.

    Exit code: 0 when it is certain that nothing will be charged by it; 1 otherwise.
    """
    with open_client(read_settings()) as client:
        given_up = client.cancel(intent_id, because=because)
    _print(given_up, as_json)
    if given_up.state.refused:
        return 0
    output.say(words.not_canceled(given_up))
    return 1


def _print(one: Charge, as_json: bool) -> None:
    if as_json:
        output.json_line(one.as_json())
    else:
        for line in words.block(one):
            output.data(line)


def _print_line(one: Charge, as_json: bool) -> None:
    if as_json:
        output.json_line(one.as_json())
    else:
        output.data(words.line(one))


def _money(amount: str, currency: str) -> Money:
    """The amount in minor units; a decimal is answered with what was probably meant, never guessed."""
    from gateway_client import InvalidInput, Money

    if amount.isascii() and amount.isdigit():
        return Money(int(amount[:20]), currency)  # 20 digits are as much too large as 20,000
    if not re.fullmatch(r"[0-9]+\.[0-9]+", amount, re.ASCII):
        raise InvalidInput("amount", "must be a whole number of minor units, such as 1999 for 19.99 USD")
    meant = Money.parse(amount, currency).amount
    raise InvalidInput("amount", f"minor units; did you mean {meant}?")


def _moment(name: str, text: str) -> datetime:
    """A time with its offset, in ISO 8601."""
    from gateway_client import InvalidInput

    try:
        return datetime.fromisoformat(text)  # without an offset the intent refuses it
    except ValueError:
        raise InvalidInput(name, "must be ISO 8601 with an offset, such as 2026-11-20T18:00:00Z") from None


def _pairs(option: str, given: list[str]) -> dict[str, str]:
    """What name=value, given once or several times, says."""
    from gateway_client import InvalidInput

    pairs: dict[str, str] = {}
    for pair in given:
        name, sign, value = pair.partition("=")
        if not sign:
            raise InvalidInput(option, "must be name=value")
        if name in pairs:
            raise InvalidInput(option, "has a name twice")
        pairs[name] = value
    return pairs
