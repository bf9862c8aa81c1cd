"""Every code of a finding, made for real: what the nightly run finds, repairs or flags, and what it leaves alone."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway_client import AttemptRefused, Money, NeedsPerson, PaymentIntent, State
from gateway_client.finding import Finding
from gateway_client.store.findings import close_finding
from tests.kit import ONE_SEND, USD_20
from tests.nightly import DATABASES, Night, codes, night, only
from tests.nightly_cases import (
    AGREE,
    DEBIT,
    DISAGREE,
    FAILED,
    LESS,
    PAYS,
    REFUSED,
    VISA,
    Make,
    again,
    cancelled,
    changed,
    doubted,
    forgotten,
    gone,
    late_success,
    line,
    make_all,
    of_intent,
    paid,
    prepared,
    states,
    thrice,
)

ORDER_A = PaymentIntent("a", USD_20, VISA)


@pytest.fixture(params=DATABASES)
def dark(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Night]:
    """A night in which a temporary file that is left behind is seen."""
    with night(request.param) as made:
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        yield made
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dark", ["sync"], indirect=True)  # on PostgreSQL together: test_reconcile_ledgers
@pytest.mark.parametrize("name", DISAGREE)
def test_found(dark: Night, name: str) -> None:
    """What disagrees is found under its code, repaired or flagged; a bystander is left alone (S14, L2)."""
    case = DISAGREE[name]
    make_all(dark, {"a": case, "bystander": AGREE["succeeded"]})
    result = dark.run()
    assert (of_intent(result, "a"), states(dark, "a")) == (sorted(case.found), case.after)
    assert (result.provider_charges, result.matched, result.foreign) == (case.listed + 1, case.matched + 1, 0)
    assert len(result.findings) == len(case.found)


def test_clean_day(dark: Night) -> None:
    """A day of every healthy kind of charge at once: nothing is found, whatever became of them (F57, F59)."""
    make_all(dark, AGREE)
    result = thrice(dark)
    assert (codes(result), result.open_findings, result.repaired, result.flagged) == (set(), 0, 0, 0)
    listed = sum(case.listed for case in AGREE.values())
    assert (result.provider_charges, result.matched, result.foreign) == (listed, listed, 0)
    assert result.local_charges == 16  # attempts sent or settled today: not those of yesterday, nor the never sent


FALSE_CLAIMS = {
    "paycli_namespace": ["", "shop"],
    "paycli_key": ["", "pc1_" + "a" * 52],
    "paycli_attempt": ["", "0", "01", "2", "one"],  # the key is that of attempt 1
    "paycli_intent": ["", "b", "4242 4242 4242 4242"],
}


@pytest.mark.parametrize("rows", [0, 1])
def test_foreign(dark: Night, rows: int) -> None:
    """What is not provably ours is counted, never imported, never compared: no metadata, or a false claim (F135)."""
    for _ in range(rows):
        dark.pay("a")
    claimed = [{"order": "a"}]
    claimed += [{**dark.claims("a"), name: value} for name, values in FALSE_CLAIMS.items() for value in values]
    for metadata in (None, *claimed):
        dark.stranger_pays(metadata=metadata)
    result = thrice(dark)
    assert (codes(result), states(dark, "a"), result.matched) == (set(), "succeeded" * rows, rows)
    assert result.foreign == len(claimed) + 1


@pytest.mark.parametrize("make", [paid(), doubted()], ids=["settled", "in doubt"])
def test_stripped_metadata(dark: Night, make: Make) -> None:
    """A charge whose metadata were edited away is known by its id, or by the intent that it belongs to (F136)."""
    make(dark, "a")
    pending = dark.state("a") is not State.SUCCEEDED
    changed({"metadata": {}})(dark, "a")
    result = thrice(dark)
    assert (codes(result), states(dark, "a")) == ({("outcome_recovered", "a")} if pending else set(), "succeeded")
    assert (result.provider_charges, result.matched, result.foreign) == (1, int(not pending), 0)


def test_told_differently(dark: Night) -> None:
    """What a charge and its intent tell with different numbers is no success, an hour later either (F56)."""
    make_all(dark, {"a": DISAGREE["amount of the charge in doubt"]})
    dark.clock.advance(hours=1)
    result = thrice(dark)
    assert (of_intent(result, "a"), states(dark, "a")) == (["amount_mismatch/1 flagged"], "conflict")


@pytest.mark.parametrize("who", ["the next night", "resume", "charge"])
def test_told_differently_to_others(dark: Night, who: str) -> None:
    """Nor is it one to whoever looks next: a person has to look, the finding is open (F56)."""
    make_all(dark, {"a": DISAGREE["amount of the charge in doubt"]})
    dark.run()
    dark.clock.advance(hours=24)
    looks: dict[str, Callable[[], object]] = {"the next night": dark.run, "resume": dark.open_client().resume}
    looks.get(who, lambda: dark.pay("a"))()
    assert states(dark, "a") == "conflict"


def test_the_one_we_know_is_not_the_duplicate(dark: Night) -> None:
    """Of two successes the one that our row names stands, also when it is the younger one."""
    dark.pay_behind_our_back("a")
    dark.clock.advance(minutes=1)
    other = dark.sandbox.charges[0]["id"]
    own = dark.pay("a").provider_charge_id
    result = thrice(dark)
    assert (codes(result), result.findings[0].provider_charge_id == other != own) == ({("duplicate_charge", "a")}, True)


def test_earlier_try(dark: Night) -> None:
    """A failed try before the success of the same intent contradicts nothing, though it alone was made today."""
    own = dark.pay("a")
    dark.pay_behind_our_back("a")
    failed, intent = dark.sandbox.charges[0]["id"], dark.sandbox.payment_intents[0]["id"]
    dark.sandbox.remove(intent)
    dark.sandbox.change(failed, payment_intent=own.provider_intent_id, **FAILED)
    for known in (own.provider_intent_id, own.provider_charge_id):
        dark.sandbox.change(str(known), created=int(dark.clock.true_time()) - 24 * 3600)
    result = thrice(dark)
    assert (codes(result), result.provider_charges, result.matched) == (set(), 1, 1)


# People ------------------------------------------------------------------------------------------------------------


def close(dark: Night, finding: Finding) -> None:
    """As `paycli resolve` does."""
    dark.transact(lambda tx: close_finding(tx, finding.id, "refunded"))


@pytest.mark.parametrize("name", ["charge gone", "same key again", "amount", "success after a decline"])
def test_closed_by_a_person(dark: Night, name: str) -> None:
    """A finding that a person has closed is found again under its id, recorded, and stays closed (F142)."""
    make_all(dark, {"a": DISAGREE[name]})
    first = only(thrice(dark))
    close(dark, first)
    result = thrice(dark)
    assert (only(result).id, only(result).action, only(result).open) == (first.id, "recorded", False)
    assert (only(result).because, result.flagged, result.news, result.open_findings) == ("refunded", 0, 0, 0)


def test_stale(dark: Night) -> None:
    """A prepared charge that is a day old is flagged, can still be charged, and its finding closes by itself (L3)."""
    prepared(dark, "a")
    dark.clock.advance(hours=24, seconds=1)
    assert line(only(thrice(dark))) == "stale_pending/1 flagged"
    assert dark.pay("a").state is State.SUCCEEDED
    result = thrice(dark)
    assert (codes(result), result.open_findings) == (set(), 0)
    assert dark.sql("SELECT closed_by, because FROM paycli_findings") == [
        (result.run_id, "it is no longer pending for too long")
    ]


def test_stale_again(dark: Night) -> None:
    """A finding that a run has closed opens again when it is so again; it is one finding with one id (L3)."""
    prepared(dark, "a")
    dark.clock.advance(hours=24, seconds=1)
    first = only(thrice(dark))
    dark.sql("UPDATE pending_charges SET state = 'canceled'")
    assert thrice(dark).open_findings == 0
    dark.sql("UPDATE pending_charges SET state = 'prepared'")
    result = thrice(dark)
    assert (only(result).id, only(result).open, result.news, result.open_findings) == (first.id, True, 1, 1)


def test_not_stale_yet(dark: Night) -> None:
    """What is pending for less than a day is no finding, whatever it waits for (L3)."""
    prepared(dark, "a")
    dark.pay("debit", DEBIT)
    dark.doubt("doubt", "lost_request")
    dark.clock.advance(hours=22.9)
    assert codes(thrice(dark)) == set()


# The next send -----------------------------------------------------------------------------------------------------

CONTRADICTED = {
    "declined": [paid(REFUSED), late_success],
    "canceled": [paid(DEBIT), cancelled, again()],
    "rejected": [paid("pm_nowhere"), again()],
    "conflict": [doubted(), changed(LESS, LESS)],
    "succeeded": [paid(), gone],
}


@pytest.mark.parametrize("state", CONTRADICTED)
def test_next_send_is_blocked(dark: Night, state: str) -> None:
    """After a finding that contradicts us nothing is sent for the intent, by any attempt (S6)."""
    for make in CONTRADICTED[state]:
        make(dark, "a")
    dark.run()
    sends = len(dark.sends)
    method = dark.row("a")["payment_method"]
    assert (dark.pay("a", method).state, states(dark, "a")) == (state, state)
    with pytest.raises(NeedsPerson if State(state).refused else AttemptRefused):
        dark.pay("a", attempt=2)
    dark.open_client().resume()
    assert (len(dark.sends), states(dark, "a")) == (sends, state)


def test_prepared_attempt_is_blocked(dark: Night) -> None:
    """A late success of attempt 1 stops attempt 2, which was prepared before it was found (S6)."""
    dark.pay("a", REFUSED)
    dark.sandbox.fault("refused")
    client = dark.open_client(retry=ONE_SEND)
    assert client.charge(ORDER_A, attempt=2).state is State.PREPARED
    dark.pay_behind_our_back("a")
    assert codes(dark.run()) == {("status_mismatch", "a")}
    sends = len(dark.sends)
    with pytest.raises(NeedsPerson):
        client.charge(ORDER_A)
    (left,) = client.resume()
    assert (left.state, len(dark.sends), dark.paid("a")) == (State.PREPARED, sends, 1)


def test_attempt_2_waits_for_its_place(dark: Night) -> None:
    """A success of attempt 2 without a row is flagged while attempt 1 is pending, imported once that is absent."""
    dark.doubt("a", "told_429")
    dark.give_up("a")
    dark.pay_behind_our_back("a", 2)
    day = dark.today
    first = only(thrice(dark))
    assert (line(first), states(dark, "a")) == ("missing_locally/2 flagged", "unknown")
    dark.clock.advance(hours=24)
    dark.run(day)
    result = dark.run(day)
    assert (of_intent(result, "a"), states(dark, "a")) == (["missing_locally/2 repaired"], "absent succeeded")
    assert (only(result).id, result.open_findings, dark.paid("a")) == (first.id, 0, 1)


# Imported rows -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "state"), [(VISA, "succeeded"), (REFUSED, "declined")])
def test_imported(dark: Night, method: str, state: str) -> None:
    """A charge whose row was imported is returned without a request; for another amount a person looks (F102)."""
    dark.pay("a", method)
    forgotten(dark, "a")
    dark.run()
    asked, known = len(dark.asked), dark.sandbox.charges[0]
    charge = dark.open_client().charge(ORDER_A)
    assert (charge.state, charge.provider_charge_id, charge.sends) == (state, known["id"], 0)
    assert charge.provider_intent_id == known["payment_intent"]
    for other in (Money(2001, "usd"), Money(2000, "eur")):
        with pytest.raises(NeedsPerson):
            dark.open_client().charge(PaymentIntent("a", other, VISA))
    assert len(dark.asked) == asked


def test_imported_debit(dark: Night) -> None:
    """An imported debit is never sent; `charge` asks for it, and `resume` finishes it (F102)."""
    dark.pay("a", PAYS)
    forgotten(dark, "a")
    dark.run()
    sends = len(dark.sends)
    assert dark.open_client().charge(ORDER_A).state is State.PROCESSING
    dark.clock.advance(minutes=1)
    (charge,) = dark.open_client().resume()
    assert (charge.state, charge.sends, len(dark.sends), dark.paid("a")) == (State.SUCCEEDED, 0, sends, 1)
    assert codes(thrice(dark)) == set()


@pytest.mark.parametrize(("status", "state"), [("pending", "processing"), ("unlisted", "unknown")])
def test_imported_without_an_intent(dark: Night, status: str, state: str) -> None:
    """An imported charge without a result, and without an intent to ask for, is never sent by anybody (F60, F102)."""
    dark.pay_behind_our_back("a")
    dark.sandbox.remove(dark.sandbox.payment_intents[0]["id"])
    changed({"status": status, "payment_intent": None})(dark, "a")
    assert line(only(thrice(dark))) == "missing_locally/1 flagged"
    posts = [asked for asked in dark.asked if asked.startswith("POST")]
    for _ in range(2):
        assert dark.pay("a").state == state
        dark.open_client().resume()
        dark.clock.advance(hours=30)
    assert [asked for asked in dark.asked if asked.startswith("POST")] == posts


def test_attempt_2_of_an_imported_decline(dark: Night) -> None:
    """Attempt 2 after an imported decline cancels the declined intent first, and charges once (S6)."""
    dark.pay("a", REFUSED)
    forgotten(dark, "a")
    dark.run()
    dark.sql("UPDATE paycli_findings SET closed_at = found_at, closed_by = 'ann@host'")
    assert dark.pay("a", attempt=2).state is State.SUCCEEDED
    assert [intent["status"] for intent in dark.sandbox.payment_intents] == ["succeeded", "canceled"]
    assert (codes(thrice(dark)), dark.paid("a")) == (set(), 1)


def test_both_differ(dark: Night) -> None:
    """Where amount and result differ, each finding tells the provider's own amount, never ours in its name."""
    paid()(dark, "a")
    changed({**FAILED, "amount": 2500, "captured": False}, {})(dark, "a")
    found = dark.run().findings
    assert {one.code.value for one in found} == {"amount_mismatch", "status_mismatch"}
    assert [one.there for one in found if "25.00 USD" not in one.there] == []
