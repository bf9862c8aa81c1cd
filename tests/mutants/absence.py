"""Mistakes about looking up, and about proving that nothing was charged."""

from tests.mutants.mutant import Mutant

ABSENCE = "gateway_client/absence.py"
LOOKUP = "gateway_client/flow/lookup.py"
PAGES = "gateway_client/gateways/stripe_pages.py"
STRIPE = "gateway_client/gateways/stripe_api.py"
RECORD = "gateway_client/record.py"
SETTLE = "gateway_client/store/settle.py"

GATE = "gateway_client/store/gate.py"
CLEARING = "gateway_client/flow/clearing.py"
BOUNDS = "gateway_client/bounds.py"

_QUIET = "return self.hold + self.first_byte + self.execution + self.list_lag + 2 * self.clock_tolerance"
_QUIET_FROM = "return charge.quiet_from + quiet_for(charge, bounds)"
_UNPROVEN = "return self.quiet + self.roll_forward"

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
        kept="the lists cannot be asked",
    ),
    Mutant(
        "absence of an attempt that may still be sent",
        SETTLE,
        "known = Known(record.charge(), effect.profile.bounds, tx.now, effect.scan)\n    problem",
        "charge = record.charge()\n"
        "    from dataclasses import replace\n"
        "    at = charge.closed_at or charge.first_sent_at\n"
        "    charge = replace(charge, closed_at=at, quiet_from=charge.quiet_from or at)\n"
        "    known = Known(charge, effect.profile.bounds, tx.now, effect.scan)\n    problem",
        kept="refused, refused again",
    ),
    Mutant(
        "a 500 that was read is proof",
        RECORD,
        'unproven=not all(send["proven"] and send["outcome"] in RESULTS for send in left)',
        'unproven=not all(send["proven"] and (send["outcome"] in RESULTS or send["status"] == 500) for send in left)',
    ),
    Mutant(
        "only a 5xx is waited out, no silence",
        RECORD,
        'unproven=not all(send["proven"] and send["outcome"] in RESULTS for send in left)',
        'unproven=any((send["status"] or 0) >= 500 for send in left)',
    ),
    Mutant(
        "quiet counts from the first send",
        ABSENCE,
        _QUIET_FROM,
        "return (charge.first_sent_at or charge.quiet_from) + quiet_for(charge, bounds)",
    ),
    Mutant(
        "a minute of quiet is enough",
        BOUNDS,
        _QUIET,
        "return timedelta(minutes=1)",
    ),
    Mutant(
        "a day of quiet after a 500 is enough",
        BOUNDS,
        _UNPROVEN,
        "return timedelta(hours=24)",
    ),
    Mutant(
        "a list counts from its end, not from its beginning",
        LOOKUP,
        "return reading.scan(begun_at=now)",
        "return reading.scan(begun_at=(yield from Now()))",
        kept="a reading that is begun too early",
    ),
    Mutant(
        "the list begins with the first send",
        BOUNDS,
        "return 3 * self.clock_tolerance",
        "return timedelta(0)",
    ),
    Mutant(
        "a payment without our metadata is none of ours",
        ABSENCE,
        "if any(stranger.may_be(charge) for stranger in scan.strangers):",
        "if False:",
        also=(ABSENCE, "if any(stranger.is_by_payer_of(charge) for stranger in scan.strangers):", "if False:"),
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
        "evidence = Lists((_INTENTS, _CHARGES))",
        "evidence = Lists((_CHARGES,))",
    ),
    Mutant(
        "charges are not listed",
        STRIPE,
        "evidence = Lists((_INTENTS, _CHARGES))",
        "evidence = Lists((_INTENTS,))",
    ),
    Mutant(
        "could not ask is nothing there",
        STRIPE,
        "if isinstance(reply, NoReply) or reply.status != 200 or why_not_an_answer(None, reply) is not None:\n"
        "            return could_not_ask(reply)\n        return read_list(",
        "if isinstance(reply, NoReply) or reply.status != 200 or why_not_an_answer(None, reply) is not None:\n"
        '            return made_of((), None, Reply(200, {}, b"", 0), has_more=False)\n        return read_list(',
    ),
    Mutant(
        "a page that cannot be read is an empty one",
        PAGES,
        'if page is None or page.kind != "list" or page.url != path:\n        return could_not_ask(reply)',
        'if page is None or page.kind != "list" or page.url != path:\n'
        "        return made_of((), None, reply, has_more=False)",
    ),
    # What quiet is, and from when
    Mutant(
        "quiet counts from the last send's begin",
        ABSENCE,
        _QUIET_FROM,
        "return (charge.last_sent_at or charge.quiet_from) + quiet_for(charge, bounds)",
    ),
    Mutant(
        "the list's lag is not waited for",
        BOUNDS,
        _QUIET,
        "return self.hold + self.first_byte + self.execution + 2 * self.clock_tolerance",
    ),
    Mutant(
        "a request is never held on its way",
        BOUNDS,
        _QUIET,
        "return self.first_byte + self.execution + self.list_lag + 2 * self.clock_tolerance",
        kept="P11",
    ),
    Mutant(
        "the 500 that was seen is the only one",
        BOUNDS,
        _UNPROVEN,
        "return self.roll_forward + self.list_lag + 2 * self.clock_tolerance",
        kept="a 500 is seen",
    ),
    Mutant(
        "it is quiet from the moment of closing, whatever this machine's clock is",
        GATE,
        'changes = {"closed_at": now, "quiet_from": None}',
        'changes = {"closed_at": now, "quiet_from": now}',
        kept="two machines",
    ),
    Mutant(
        "who gives up knows the time",
        SETTLE,
        '"closed_at": tx.now, "quiet_from": None}',
        '"closed_at": tx.now, "quiet_from": tx.now}',
        kept="given up by a machine",
    ),
    Mutant(
        "a reading from before the closing tells from when it is quiet",
        SETTLE,
        'if effect.closed and record.row["closed_at"]',
        'if record.row["closed_at"]',
        kept="a look-up that",
    ),
    Mutant(
        "the lists are read without asking for the time",
        LOOKUP,
        "unasked = yield from meet(setup, binding, anew=True)",
        "unasked = yield from meet(setup, binding)",
    ),
    Mutant(
        "the lists are not read beyond our own time",
        BOUNDS,
        "return 2 * self.clock_tolerance\n\n    def table",
        "return timedelta(0)\n\n    def table",
        kept="P2: a refusal, and the other",
    ),
    # What an object that was edited by hand is
    Mutant(
        "another namespace is another service, whatever its key",
        LOOKUP,
        "return item.namespace != self.binding.namespace and self.binding.computes(item)",
        "return item.namespace not in (None, self.binding.namespace)",
        kept="P12: the namespace",
    ),
    Mutant(
        "what names our attempt without its key is nobody's",
        ABSENCE,
        "if charge.idempotency_key in scan.claimed:",
        "if False:",
        kept="P12: the key alone",
    ),
    Mutant(
        "a success by our payer without our metadata is none of ours",
        ABSENCE,
        "if any(stranger.is_by_payer_of(charge) for stranger in scan.strangers):",
        "if False:",
        kept="the other delivery of a refused send is charged",
    ),
    # What an object that cannot be read is
    Mutant(
        "an object that cannot be read is not there",
        ABSENCE,
        "if charge.idempotency_key in scan.unreadable:",
        "if False:",
        kept="B2: nobody",
    ),
    Mutant(
        "an object that cannot be read is a stranger's",
        "gateway_client/gateways/base.py",
        "return self.named and (self.namespace == binding.namespace or not binding.computes(self))",
        "return False",
        kept="B2: nobody",
    ),
    Mutant(
        "a list is a list, wherever it is from",
        PAGES,
        'if page is None or page.kind != "list" or page.url != path:',
        "if page is None:",
        also=(PAGES, "if any(isinstance(found.kind, str) and found.kind != kind for found in objects):", "if False:"),
    ),
)
