"""Mistakes about what an answer proves."""

from tests.mutants.mutant import Mutant

STRIPE = "gateway_client/gateways/stripe_api.py"

_TIMEOUT = "return Answer(not_answered(reply), elapsed_ms=reply.elapsed_ms)"
_IN_USE = 'return InFlight("a request with this key is executing now")'
_OTHER = 'return Unknown(f"HTTP {status}: {words}")'
_NO_INTENT = 'return Unknown(f"HTTP {status} without a payment intent in it")'

MUTANTS = (
    Mutant(
        "timeout treated as failed",
        STRIPE,
        _TIMEOUT,
        "return Answer(Rejected(reply.reason) if reply.sent else not_answered(reply), elapsed_ms=reply.elapsed_ms)",
        incident="opencollective/opencollective #2285: a connection error was a failure, the second try charged again",
        planted="timeout treated as failed",
    ),
    Mutant(
        "timeout treated as not sent",
        "gateway_client/gateways/stripe_objects.py",
        "    if reply.sent:\n        return Unknown(reply.reason)\n",
        "",
    ),
    Mutant(
        "not sent treated as failed",
        STRIPE,
        _TIMEOUT,
        "return Answer(not_answered(reply) if reply.sent else Declined(reply.reason), elapsed_ms=reply.elapsed_ms)",
    ),
    Mutant(
        "409 as failure",
        STRIPE,
        _IN_USE,
        "return Rejected(words)",
        incident="stripe/stripe-ruby #431: the retry's 409 was raised as an error, and the first request had succeeded",
    ),
    Mutant(
        "409 as decline",
        STRIPE,
        _IN_USE,
        "return Declined(words)",
        incident="stripe/stripe-terminal-android #470: after a timeout two 409s, told as declined, and paid",
    ),
    Mutant(
        "saved 500 treated as failed",
        STRIPE,
        _OTHER,
        'return Declined(words) if status == 500 else Unknown(f"HTTP {status}: {words}")',
        incident="alphagov/pay-connector #3962: Stripe repeated its error for a capture that had succeeded",
        planted="saved 500 treated as failed",
    ),
    Mutant(
        "503 as failure",
        STRIPE,
        _OTHER,
        'return Declined(words) if status == 503 else Unknown(f"HTTP {status}: {words}")',
    ),
    Mutant(
        "429 as failure",
        STRIPE,
        'return NotExecuted(Cause.RATE_LIMITED, "the provider is limiting our rate (HTTP 429)")',
        'return Declined("the provider is limiting our rate (HTTP 429)")',
    ),
    Mutant(
        "refused credential as failure",
        STRIPE,
        'return NotExecuted(Cause.CREDENTIAL, f"the provider refused the credential (HTTP {status})")',
        'return Declined(f"the provider refused the credential (HTTP {status})")',
    ),
    Mutant(
        "any answer with 200 is a success",
        STRIPE,
        _NO_INTENT,
        "return Succeeded(None, None)",
        incident="MyOnlineStore/omnipay-klarna-checkout #28: the answer was never read, failed captures were successes",
    ),
    Mutant(
        "an answer that cannot be read is a failure",
        STRIPE,
        _NO_INTENT,
        'return Rejected(f"HTTP {status} without a payment intent in it")',
        incident="paypal/PayPal-TypeScript-Server-SDK #47: a 201 that the client could not parse, customers charged",
    ),
    Mutant(
        "processing as success",
        STRIPE,
        'return Processing("the provider is processing it", intent_id, charge_id)',
        "return Succeeded(intent_id, charge_id)",
        incident="invoiceninja/invoiceninja #7332: bank debits were paid at once, Stripe had them pending",
    ),
    Mutant(
        "a listed charge that is pending as success",
        STRIPE,
        'return Processing("the provider\'s charge is pending", intent_id, charge_id)',
        "return Succeeded(intent_id, charge_id)",
    ),
    Mutant(
        "a cancelled intent as success",
        STRIPE,
        'return Canceled("cancelled at the provider", intent_id, charge_id)',
        "return Succeeded(intent_id, charge_id)",
        incident="payloadcms/payload #15902: the intent's status was not looked at, cancelled payments made orders",
    ),
    Mutant(
        "an answer is not compared with what was asked",
        STRIPE,
        "if mismatch is not None:",
        "if False:",
        incident="strangerstudios/paid-memberships-pro #3767: a cheap intent was accepted for a dear order",
    ),
    Mutant(
        "the currency in the answer is not compared",
        STRIPE,
        "if item.currency != charge.currency:",
        "if False:",
    ),
    Mutant(
        "the key in the answer is not compared",
        STRIPE,
        "if item.key != charge.idempotency_key and not stripped:",
        "if False:",
    ),
)
