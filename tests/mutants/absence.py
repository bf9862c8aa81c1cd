"""Mistakes about looking up, and about proving that nothing was charged."""

from tests.mutants.mutant import Mutant

ABSENCE = "gateway_client/absence.py"
LOOKUP = "gateway_client/flow/lookup.py"
STRIPE = "gateway_client/gateways/stripe_api.py"
ROWS = "gateway_client/store/rows.py"
SETTLE = "gateway_client/store/settle.py"

MUTANTS = (
    Mutant(
        "an empty list is absence, at any time",
        ABSENCE,
        "if scan.begun_at < quiet:",
        "if False:",
    ),
    Mutant(
        "partial scan believed",
        ABSENCE,
        "if scan.why_incomplete is not None:",
        "if False:",
    ),
    Mutant(
        "absence of an attempt that may still be sent",
        SETTLE,
        "why_not = why_not_absent(record.charge(), effect.profile, effect.scan)",
        "charge = record.charge()\n"
        "    charge = replace(charge, closed_at=charge.closed_at or charge.first_sent_at)\n"
        "    why_not = why_not_absent(charge, effect.profile, effect.scan)",
    ),
    Mutant(
        "a 5xx is waited out no longer than a timeout",
        ABSENCE,
        "moments.append(charge.last_server_error_at + profile.quiet_after_server_error)",
        "moments.append(charge.last_server_error_at + profile.quiet)",
    ),
    Mutant(
        "only a 500 is waited out, no other 5xx",
        ROWS,
        'if send["status"] is not None and send["status"] >= 500]',
        'if send["status"] is not None and send["status"] == 500]',
    ),
    Mutant(
        "quiet counts from the first send",
        ABSENCE,
        "moments = [charge.closed_at, charge.last_sent_at + profile.quiet]",
        "moments = [charge.closed_at, (charge.first_sent_at or charge.last_sent_at) + profile.quiet]",
    ),
    Mutant(
        "a minute of quiet is enough",
        STRIPE,
        "quiet=timedelta(hours=1),",
        "quiet=timedelta(minutes=1),",
    ),
    Mutant(
        "a day of quiet after a 500 is enough",
        STRIPE,
        "quiet_after_server_error=timedelta(hours=72),",
        "quiet_after_server_error=timedelta(hours=24),",
    ),
    Mutant(
        "a list counts from its end, not from its beginning",
        LOOKUP,
        "return reading.scan(begun_at=now)",
        "return reading.scan(begun_at=(yield from Now()))",
    ),
    Mutant(
        "the list begins with the first send",
        STRIPE,
        "created_before_first_send=timedelta(minutes=15),",
        "created_before_first_send=timedelta(0),",
    ),
    Mutant(
        "a payment without our metadata is none of ours",
        ABSENCE,
        "if any(\n"
        "        amount in (None, charge.amount) and currency in (None, charge.currency) "
        "for amount, currency in scan.strangers\n"
        "    ):",
        "if False:",
    ),
    Mutant(
        "lookup by search, whose index is an hour behind",
        STRIPE,
        '("created[lte]", str(ceil(created_to.timestamp()))),',
        '("created[lte]", str(ceil(created_to.timestamp()) - 3600)),',
        incident="LIT-Protocol/chipotle #555: search had not indexed what was there, so it was created once more",
    ),
    Mutant(
        "one page of a list is the list",
        LOOKUP,
        "if not page.has_more or reading.all_found:",
        "if True:",
        incident="dj-stripe/dj-stripe #246: lists were read without their further pages, records were missed",
    ),
    Mutant(
        "the first charge that is found ends the list for all",
        LOOKUP,
        "return len(self.found) == len(self.wanted)",
        "return bool(self.found)",
    ),
    Mutant(
        "intents without a charge are not listed",
        STRIPE,
        "lists: Sequence[str] = (_INTENTS, _CHARGES)",
        "lists: Sequence[str] = (_CHARGES,)",
    ),
    Mutant(
        "charges are not listed",
        STRIPE,
        "lists: Sequence[str] = (_INTENTS, _CHARGES)",
        "lists: Sequence[str] = (_INTENTS,)",
    ),
    Mutant(
        "could not ask is nothing there",
        STRIPE,
        "if not isinstance(reply, Reply) or reply.status != 200:\n"
        "            return could_not_ask(reply)\n        page",
        "if not isinstance(reply, Reply) or reply.status != 200:\n"
        '            return Page((), Answer(Unknown("")), None, False)\n        page',
    ),
    Mutant(
        "a page that cannot be read is an empty one",
        STRIPE,
        "if page is None:\n            return could_not_ask(reply)",
        "if page is None:\n            return Page((), answered(reply), None, False)",
    ),
)
