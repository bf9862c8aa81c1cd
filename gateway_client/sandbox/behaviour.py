"""How a provider behaves: lengths, what it echoes, what it says of its account. All of it may be set at any time.

Only the values live here; what they do is told where they are used (`model.py`, `way_back.py`, `provider.py`).
"""

from gateway_client.sandbox.boxes import BOX_ANSWERS, BoxAnswer


class Behaviour:
    """The attributes of a `Sandbox` that may be set. Times are in seconds of its clock, unless told otherwise."""

    slow_s = 1.0
    """How long a `slow` request executes."""

    late_s = 600.0
    """When a `late` request arrives, after it was sent."""

    double_s = 0.0
    """When the second delivery of a doubled request arrives, after the first. At 0 of any `double_…` the one that is
    executed comes first; later, the one whose answer the client is told."""

    roll_forward_s = 2 * 24 * 3600.0
    """When the charge of an `error_500_later` appears, after the end of its execution: a 500 has been seen to be rolled
    forward days later, longer than a key lives, shorter than the 72 h that we wait."""

    settles_after_s = 20.0
    """How long a bank debit is `processing`; in Stripe's test mode about as long."""

    key_life_s = 24 * 3600.0
    """When an idempotency key is pruned, counted from its first request. Stripe may prune keys once they are at least
    24 h old (STRIPE.md §1.6). We always do."""

    leftover_s = 0.05
    """After how many seconds of real time a `leftover_late` is written, on a port."""

    echoes_errors = True
    """Whether the errors of a POST that reached the idempotency layer (400, 402, 404, 409, 500) echo `Idempotency-Key`
    and name their `Original-Request`, as a 200 always does. What is answered before that layer (302, 401, 403, 429,
    503) never echoes. Public captures of Stripe's answers show the echo on 200, 400 and 402; whether each of its errors
    echoes is not documented. False is a provider whose errors, replays of saved ones included, name no request."""

    names_account = True
    """Whether the 403 to a restricted key that asks for its account names that account, as Stripe's does."""

    account_paused = False
    """Whether every create and every confirmation is refused with a 400 that names no parameter, echoed and not saved:
    the account may not charge."""

    box: BoxAnswer = BOX_ANSWERS["filter_403_html"][1]
    """What a box between answers (`box_before`, `box_after`)."""

    def __init__(self) -> None:
        self.other_account_keys: dict[str, str] = {}
        """API key -> id of the account that it belongs to, when it is not this one. What is asked with such a key is
        answered for that account, from a ledger and keys of its own (`Sandbox.elsewhere`)."""
