"""Schedules that once failed, each in its shortest form: name → decisions. `tests/FOUND.md` tells what each found."""

from __future__ import annotations

KEPT: dict[str, dict[str, str]] = {
    "a clock set between the account and the gate": {
        "h1": "0.000 west charge 2 pm_usBankAccount_noAccount 1 ours",
        "h2": "0.006 east clock -200",
        "h3": "0.184 east charge 1 pm_card_visa 1 ours",
        "h3 Send 1": "lost_request",
        "h3 Send 2": "in_use_409",
        "h3 BeginSend 3": "pause 90000",
    },
    "an answer to a send that a restored database does not know": {
        "restore": "yes",
        "h1": "1.082 west charge 2 pm_none 1 ours",
        "h2": "1.115 west resume ours",
        "h3": "1.148 east prepare 1 pm_card_visa 1 ours",
        "h4": "1.254 west restore 2",
    },
    "a key of ours is rotated between two sends of a call": {
        "h2": "0.751 east charge 1 pm_card_chargeDeclined 1 ours",
        "h4": "1.251 east resume rotated",
        "h2 Send 1": "unavailable_503",
        "h2 Send 2": "refused",
        "h4 Send 1": "refused",
        "h4 Send 2": "unavailable_503",
        "h2 Send 3": "unavailable_503",
        "h2 Send 4": "html_body",
    },
    "a declined intent that the lists show late": {
        "lag_s": "60",
        "h1": "39.147 east charge 1 pm_card_chargeDeclined 1 ours",
        "h2": "43.181 west resume ours",
        "h3": "45.174 east charge 1 pm_card_visa 2 ours",
        "h1 Send 1": "cancel in flight",
        "h2 Send 1": "bare_402",
    },
    "a send that never left, beside one that is processing": {
        "h1": "0.009 east charge 1 pm_usBankAccount_noAccount 1 ours",
        "h3": "0.051 west charge 1 pm_usBankAccount_noAccount 1 ours",
        "h7": "0.136 east resume ours",
        "h3 MeetProvider 1": "pause 90000",
        "h1 Send 1": "pause 90000",
    },
}
