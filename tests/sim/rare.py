"""Schedules that each show a mistake of `tests/mutants` which few seeds show: name → decisions."""

from __future__ import annotations


def sends(call: str, decided: str, how: str | None = None) -> dict[str, str]:
    """What becomes of the four sends that a call makes of an attempt."""
    moments = [f"{call} Send {number}" for number in range(1, 5)]
    return dict.fromkeys(moments, decided) | ({} if how is None else {f"{moment} how": how for moment in moments})


RARE: dict[str, dict[str, str]] = {
    "a reading that is begun too early, and takes until it is quiet": {
        "h1": "0.000 east charge 1 pm_card_visa 1 ours",
        **sends("h1", "lost_request"),
        "h2": "60.000 west cancel 1 ours",
        "h3": "270460.000 west resume ours",
        "h3 Ask 2": "pause 700",
    },
    "a cached answer tells the time of yesterday": {
        "h1": "0.000 east charge 1 pm_card_visa 1 ours",
        **sends("h1", "lost_reply"),
        "h2": "20.000 east still 90000",
        "h3": "90030.000 east charge 1 pm_card_visa 1 ours",
        "h3 MeetProvider 1": "cached",
    },
    "refused, refused again, and on its way when the night reads": {
        "late_s": "3600",
        "h1": "0.000 east charge 1 pm_card_visa 1 ours",
        "h1 Send 1": "account_400",
        "h2": "10800.000 east charge 1 pm_card_visa 1 ours",
        "h2 Send 1": "doubled",
        "h2 Send 1 how": "account late",
        "h3": "11800.000 night reconcile 0 ours",
    },
    "a clock that is behind, and is set right between two questions": {
        "west skew": "-240",
        "h1": "305.489 west charge 3 pm_card_visa 1 ours",
        "h2": "306.332 west charge 2 pm_card_authenticationRequired 1 ours",
        "h1 MeetProvider 1": "pause 15",
        "h2 Send 1": "delayed",
        "h2 Send 1 how": "40",
    },
    "a clock set ahead at the gate of a first send": {
        "h1": "0.000 west charge 1 pm_card_visa 1 ours",
        "h1 BeginSend 1": "pause 20",
        "h2": "10.000 west clock 7200",
        **sends("h1", "lost_request"),
        "h3": "83000.000 east resume ours",
    },
    "the other delivery of a refused send is charged, and stripped by hand": {
        "h1": "0.000 east charge 1 pm_card_visa 1 ours",
        "h1 Send 1": "doubled",
        "h1 Send 1 how": "400 first",
        "h2": "54.000 west hand strip 1",
        "h3": "56.000 east charge 1 pm_card_visa 2 ours",
    },
    "an intent is asked for, and another one's answer comes": {
        "h1": "0.000 west charge 1 pm_usBankAccount_success 1 ours",
        "h2": "0.500 east charge 2 pm_usBankAccount_noAccount 1 ours",
        "h3": "45.000 east resume ours",
        "h3 Ask 2": "exchanged",
    },
    "the lists cannot be asked for before the next attempt": {
        "h1": "0.000 west charge 1 pm_none 1 ours",
        "h2": "1.500 east charge 1 pm_card_chargeDeclined 2 ours",
        "h2 MeetProvider 1": "in_use_409",
    },
    "a run dies after the first page of a list": {
        "page_rows": "1",
        "h1": "0.000 east charge 1 pm_card_visa 1 ours",
        "h2": "10.000 east charge 2 pm_card_visa 1 ours",
        "h3": "60.000 night reconcile 0 ours",
        "h3 SavePages 1": "die after",
        "h4": "200.000 night reconcile 0 ours",
    },
    "more pages than are read at once, and most hours are empty": {
        "page_rows": "1",
        **{f"h{n}": f"{n}.000 east charge {n} pm_card_chargeDeclined 1 ours" for n in range(1, 5)},
        **{f"h{n + 4}": f"{n + 10}.000 east charge {n} pm_card_visa 2 ours" for n in range(1, 5)},
        "h9": "100.000 night reconcile 0 ours",
    },
    "a list falls silent after its first page": {
        "page_rows": "1",
        "h1": "0.000 east charge 1 pm_card_visa 1 ours",
        "h2": "10.000 east charge 2 pm_card_visa 1 ours",
        "h3": "60.000 night reconcile 0 ours",
        **dict.fromkeys([f"h3 Ask {number}" for number in range(2, 8)], "unavailable_503"),
        "h4": "120.000 east resume ours",
    },
    "a charge that is listed late, and nobody tells of it": {
        "lag_s": "7200",
        "h1": "0.000 east charge 1 pm_card_visa 1 ours",
        "h2": "60.000 night reconcile 0 ours",
        **dict.fromkeys([f"h2 Ask {number}" for number in range(3, 9)], "unavailable_503"),
        "h3": "120.000 east resume ours",
    },
    "given up by a machine that stood still, while another one sends": {
        "late_s": "3600",
        "h1": "0.000 west charge 2 pm_card_visa 1 ours",
        "h2": "0.500 west prepare 1 pm_card_visa 1 ours",
        "h3": "1.000 west still 380000",
        "h4": "2.000 west charge 1 pm_card_visa 1 ours",
        **sends("h4", "held"),
        "h5": "82300.000 east cancel 1 ours",
        "h5 GiveUp 1": "stands still for 300000",
        "h6": "382305.000 east clock 0",
        "h7": "382310.000 east resume ours",
    },
    "a worker wakes with seconds of its lease left": {
        "h1": "0.000 west prepare 4 pm_card_visa 1 ours",
        "h2": "855.000 east work 0.2 9th ours",
        "h2 BeginSend 1": "pause 135",
    },
    "a worker comes while somebody waits for an answer": {
        "h1": "1.351 east charge 1 pm_card_chargeDeclined 1 ours",
        "h2": "5.047 east work 0.2 idle ours",
        "h1 Send 1": "delayed",
    },
}
