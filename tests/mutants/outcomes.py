"""Mistakes about what an answer proves."""

from tests.mutants.mutant import Mutant

STRIPE = "gateway_client/gateways/stripe_api.py"
ANSWERS = "gateway_client/gateways/stripe_answers.py"
OBJECTS = "gateway_client/gateways/stripe_objects.py"
PROOF = "gateway_client/proof.py"

_TIMEOUT = "return Answer(not_answered(reply), elapsed_ms=reply.elapsed_ms)"
_IN_USE = 'return InFlight("a request with this key is executing now")'
_OTHER = 'return Unknown(f"HTTP {status}: {words}")'
_NO_INTENT = 'return replace(base, outcome=Unknown(f"HTTP {base.status} without a payment intent in it"))'
_ECHOED = 'echoed = reply.headers.get("idempotency-key") == expected.key'
_REFUSED = "return Rejected(reason) if cause is None else Refused(cause, reason)"

MUTANTS = (
    Mutant(
        "timeout treated as failed",
        STRIPE,
        _TIMEOUT,
        "from gateway_client.outcome import Rejected\n"
        "            return Answer(Rejected(reply.reason) if reply.sent else not_answered(reply))",
        incident="opencollective/opencollective #2285: a connection error was a failure, the second try charged again",
        planted="timeout treated as failed",
    ),
    Mutant(
        "timeout treated as not sent",
        OBJECTS,
        "    if reply.sent:\n        return Unknown(reply.reason)\n",
        "",
    ),
    Mutant(
        "not sent treated as failed",
        STRIPE,
        _TIMEOUT,
        "from gateway_client.outcome import Declined\n\n"
        "            told = not_answered(reply) if reply.sent else Declined(reply.reason)\n"
        "            return Answer(told, elapsed_ms=reply.elapsed_ms)",
    ),
    Mutant(
        "409 as failure",
        ANSWERS,
        _IN_USE,
        "return Rejected(words)",
        incident="stripe/stripe-ruby #431: the retry's 409 was raised as an error, and the first request had succeeded",
    ),
    Mutant(
        "409 as decline",
        ANSWERS,
        _IN_USE,
        "return Declined(words)",
        incident="stripe/stripe-terminal-android #470: after a timeout two 409s, told as declined, and paid",
    ),
    Mutant(
        "saved 500 treated as failed",
        ANSWERS,
        _OTHER,
        'return Declined(words) if status == 500 else Unknown(f"HTTP {status}: {words}")',
        incident="alphagov/pay-connector #3962: Stripe repeated its error for a capture that had succeeded",
        planted="saved 500 treated as failed",
    ),
    Mutant(
        "503 as failure",
        ANSWERS,
        _OTHER,
        'return Declined(words) if status == 503 else Unknown(f"HTTP {status}: {words}")',
    ),
    Mutant(
        "429 as failure",
        ANSWERS,
        _REFUSED,
        "return Rejected(reason) if cause in (None, Cause.RATE_LIMITED) else Refused(cause, reason)",
    ),
    Mutant(
        "refused credential as failure",
        ANSWERS,
        _REFUSED,
        "return Rejected(reason) if cause in (None, Cause.CREDENTIAL) else Refused(cause, reason)",
    ),
    Mutant(
        "any answer with 200 is a success",
        ANSWERS,
        _NO_INTENT,
        "return replace(base, outcome=Succeeded(None, None))",
        incident="MyOnlineStore/omnipay-klarna-checkout #28: the answer was never read, failed captures were successes",
    ),
    Mutant(
        "an answer that cannot be read is a failure",
        ANSWERS,
        _NO_INTENT,
        'return replace(base, outcome=Rejected(f"HTTP {base.status} without a payment intent in it"))',
        incident="paypal/PayPal-TypeScript-Server-SDK #47: a 201 that the client could not parse, customers charged",
    ),
    Mutant(
        "processing as success",
        PROOF,
        'return Processing("the provider is processing it", *ids)',
        "return Succeeded(*ids)",
        incident="invoiceninja/invoiceninja #7332: bank debits were paid at once, Stripe had them pending",
    ),
    Mutant(
        "a listed charge that is pending as success",
        OBJECTS,
        '"pending": Shown.PROCESSING',
        '"pending": Shown.SUCCEEDED',
        also=(
            OBJECTS,
            "if shows is Shown.SUCCEEDED and found.captured is False:",
            "if found.status == 'succeeded' and found.captured is False:",
        ),
    ),
    Mutant(
        "a cancelled intent as success",
        PROOF,
        'return Canceled("cancelled at the provider", *ids)',
        "return Succeeded(*ids)",
        incident="payloadcms/payload #15902: the intent's status was not looked at, cancelled payments made orders",
    ),
    Mutant(
        "an answer is not compared with what was asked",
        PROOF,
        "if differs is not None:",
        "if False:",
        incident="strangerstudios/paid-memberships-pro #3767: a cheap intent was accepted for a dear order",
    ),
    Mutant(
        "the currency in the answer is not compared",
        PROOF,
        "if currency not in (None, seen.currency):",
        "if False:",
    ),
    # Whether an answer answers this request
    Mutant(
        "an error without an echo is believed",
        ANSWERS,
        _ECHOED,
        "echoed = True",
        kept="P3: a filter's 400",
    ),
    Mutant(
        "the echoed key is not compared",
        ANSWERS,
        _ECHOED,
        'echoed = "idempotency-key" in reply.headers',
        also=(ANSWERS, "if echo is not None and echo != key:", "if False:"),
    ),
    Mutant(
        "a decline that names nothing of ours is believed",
        ANSWERS,
        "return _decline(base, error, expected, proven=echoed or intent is not None)",
        "return _decline(base, error, expected, proven=True)",
    ),
    Mutant(
        "another payment's success is ours",
        ANSWERS,
        "if item.key != expected.key:",
        "if False:",
        also=(PROOF, "if expected.key not in (None, seen.key) and not _stripped(expected, seen):", "if False:"),
    ),
    Mutant(
        "a refusal of the account is one of the charge",
        ANSWERS,
        _REFUSED,
        "return Rejected(reason) if cause in (None, Cause.ACCOUNT) else Refused(cause, reason)",
    ),
    Mutant(
        "a refusal of the account, the key or the rate is a decline",
        ANSWERS,
        _REFUSED,
        "return Rejected(reason) if cause is None else Declined(reason)",
    ),
    Mutant(
        "rejected while another send is in doubt",
        "gateway_client/state.py",
        "return Event.UNCLEAR if in_doubt else Event.REJECTED",
        "return Event.REJECTED",
    ),
    Mutant(
        "an answer from a cache is one from now",
        ANSWERS,
        'if reply.headers.get("age", "0").strip() != "0":',
        "if False:",
        kept="a cached answer",
    ),
    Mutant(
        "the declared account is believed",
        STRIPE,
        "return Account(named.pop()) if len(named) == 1 else untold",
        "return Account(getattr(self, 'declared_account', None) or ACCOUNT_UNTOLD)",
        kept="P5",
    ),
    Mutant(
        "whoever may not ask whose key it is has the right one",
        "gateway_client/flow/asking.py",
        "    if isinstance(met, CouldNotAsk):\n        refuse_credential(met)\n        return met.reason\n",
        "    if isinstance(met, CouldNotAsk):\n        return None if met.reply == 'forbidden' else met.reason\n",
    ),
    Mutant(
        "a retrieved intent is ours, whichever it is",
        STRIPE,
        'if intent is None or intent.kind not in (None, "payment_intent") or intent.id != expected.provider_intent_id:',
        'if intent is None or intent.kind not in (None, "payment_intent"):',
        also=(PROOF, "if expected.key not in (None, seen.key) and not _stripped(expected, seen):", "if False:"),
        kept="an intent is asked for",
    ),
)
