"""Mistakes about keys, bodies and whose store this is."""

from tests.mutants.mutant import Mutant

CHARGING = "gateway_client/flow/charging.py"
INTENT = "gateway_client/intent.py"
ASKING = "gateway_client/flow/asking.py"
GATE = "gateway_client/store/gate.py"
CLAIM = "gateway_client/store/claim.py"

_SEND = "reply = yield from Send(operation.request(begun.charge, begun.body, begun.api_version), begun)"

MUTANTS = (
    Mutant(
        "new key per try",
        CHARGING,
        _SEND,
        "key = begun.charge.idempotency_key + '-' * (begun.send_no - 1)\n"
        "    charge = replace(begun.charge, idempotency_key=key)\n"
        "    reply = yield from Send(operation.request(charge, begun.body, begun.api_version), begun)",
        incident="tempoxyz/pympp #155: the key was made of a token that every retry mints anew, buyers charged twice",
        planted="new key per try",
    ),
    Mutant(
        "random key and no row before the call",
        CHARGING,
        "claimed = yield from claim\n",
        "now = draft(attempt or 1)\n"
        "    random = setup.gateway.charge_request(now.body, f'{setup.started_at:%s}', now.api_version)\n"
        "    yield from Send(random, Begun(None, 1, now.body, now.api_version, None))\n"
        "    claimed = yield from claim\n",
        incident="akash-network/console #3449: each delivery made a fresh row and an intent without a key, "
        "customers charged two and three times",
        planted="random key and no row before the call",
    ),
    Mutant(
        "409 answered with a new key",
        CHARGING,
        "answer = yield from _send(setup, step)",
        "answer = yield from _send(\n"
        "            setup,\n"
        "            replace(\n"
        "                step,\n"
        "                charge=replace(\n"
        "                    step.charge, idempotency_key=step.charge.idempotency_key + '-' * (tries - sends)\n"
        "                ),\n"
        "            ),\n"
        "        )",
        planted="409 answered with a new key",
    ),
    Mutant(
        "key after the row: made by the process that sends",
        CHARGING,
        _SEND,
        "key = f'{begun.charge.idempotency_key}-{setup.started_at.timestamp()}'\n"
        "    charge = replace(begun.charge, idempotency_key=key)\n"
        "    reply = yield from Send(operation.request(charge, begun.body, begun.api_version), begun)",
    ),
    Mutant(
        "every attempt has the key of the first",
        INTENT,
        "return _key_of(provider, mode, account, namespace, operation, intent_id, str(attempt))",
        "return _key_of(provider, mode, account, namespace, operation, intent_id)",
    ),
    Mutant(
        "key of a shortened intent id",
        INTENT,
        "return _key_of(provider, mode, account, namespace, operation, intent_id, str(attempt))",
        "return _key_of(provider, mode, account, namespace, operation, intent_id[:6], str(attempt))",
    ),
    Mutant(
        "the number of the try is in the body",
        CHARGING,
        _SEND,
        "body = f'{begun.body}&metadata[try]={begun.send_no}'\n"
        "    reply = yield from Send(operation.request(begun.charge, body, begun.api_version), begun)",
        incident="stripe/stripe-java #389: metadata in the repeated call made it another request than the first",
    ),
    Mutant(
        "a body that was changed on disk is sent",
        GATE,
        'if key != row["idempotency_key"] or sha256(row["body"]) != row["body_sha256"]:',
        'if key != row["idempotency_key"]:',
    ),
    Mutant(
        "the charge does not carry our key",
        "gateway_client/gateways/stripe_api.py",
        '"paycli_key": key,',
        '"paycli_key": "",',
    ),
    Mutant(
        "asked again is another attempt",
        CLAIM,
        "attempt = effect.attempt or newest or 1",
        "attempt = effect.attempt or newest + 1",
    ),
    Mutant(
        "the credential's account is not compared",
        ASKING,
        "if account != binding.account:",
        "if False:",
    ),
    Mutant(
        "the credential's mode is not compared",
        ASKING,
        "ours = (gateway.provider, gateway.mode, setup.namespace)",
        "ours = (gateway.provider, binding.mode, setup.namespace)",
    ),
)
