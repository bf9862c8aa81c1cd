"""What the commands say when the provider refuses the account, or does not say whose a key is, and their exit codes."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli_world import World
from tests.doctor_kit import doctor, doctor_shell, found, healthy, troubles
from tests.nightly import DATABASES
from tests.nightly_shell import NightShell, night_shell
from tests.refusals import RESTRICTED, account_refused, account_unnamed
from tests.worker_yard import WAIT_S_MAX, leased, posts, prepare, sql, worker_shell

REFUSED = "the provider refuses the account, and names nothing of this charge: account_invalid"
UNTIED = "; nothing ties that to this send"


@pytest.fixture(params=["sqlite", "postgresql"])
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    with worker_shell(tmp_path, request.param) as made:
        yield made


@pytest.fixture(params=DATABASES)
def night(request: pytest.FixtureRequest) -> Iterator[NightShell]:
    with night_shell(request.param) as made:
        yield made


@pytest.fixture
def patient(tmp_path: Path) -> Iterator[World]:
    """A shell for `paycli doctor`."""
    with doctor_shell(tmp_path) as made:
        yield made


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Interrupt a command that does not end."""

    def handle(number: int, frame: object) -> None:
        raise TimeoutError

    earlier = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, earlier)


# An account that may not charge ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("echo", [True, False])
def test_charge(shell: World, *, echo: bool) -> None:
    """Exit 1: it is `unknown`, was sent once, and says why in words; once that is mended the same command ends it."""
    reason = REFUSED + UNTIED * (not echo)
    with account_refused(echo=echo) as sends:
        told = shell.charge("order_1", PAYCLI_SENDS_MAX="4")
    (charge,) = told.objects
    assert (told.code, told.err, len(sends)) == (1, "", 1)
    assert (charge["state"], charge["sends"], charge["reason"]) == ("unknown", 1, reason)
    lines = shell.paycli("show", "order_1").out.splitlines()
    assert any(line.split() == ["reason", *reason.split()] for line in lines)
    again = shell.charge("order_1")
    assert (again.code, again.objects[0]["state"], shell.sandbox.succeeded()) == (0, "succeeded", {"order_1": 1})


@pytest.mark.parametrize("command", [("resume",), ("worker", "--until-idle"), ("worker",)])
@pytest.mark.parametrize("echo", [True, False])
def test_it_stops_the_others(shell: World, command: tuple[str, ...], *, echo: bool) -> None:
    """Exit 3, at once: one send is made and told, nobody holds a row, and each is charged once that is mended.

    A worker that would wait for anything else does not wait for that.
    """
    prepare(shell, 3)
    with account_refused(echo=echo) as sends, at_most(WAIT_S_MAX):
        run = shell.paycli(*command)
    reason = REFUSED + UNTIED * (not echo)
    assert (run.code, len(sends), posts(shell), leased(shell)) == (3, 1, 0, 0)
    assert "order_0  attempt 1  19.99 USD  unknown  " + reason in run.out.splitlines()
    assert run.err.splitlines()[-1] == (
        f"error: {reason}. order_0 is unknown and is sent again when this is mended; nothing else was sent."
    )
    assert sql(shell, "SELECT state FROM pending_charges ORDER BY intent_id") == [
        ("unknown",),
        ("prepared",),
        ("prepared",),
    ]
    assert shell.paycli("resume").code == 0
    assert shell.sandbox.succeeded() == {f"order_{number}": 1 for number in range(3)}


def test_what_was_looked_up_is_told(shell: World) -> None:
    """`resume` prints what it found out of the others, too, before it says that the account is refused."""
    shell.sandbox.fault("error_500_charged", times=2)
    for _ in range(2):
        shell.charge("order_9")
    prepare(shell, 2)
    with account_refused() as sends:
        run = shell.paycli("resume")
    assert (run.code, len(sends)) == (3, 1)
    assert {line.split()[0]: line.split()[5] for line in run.out.splitlines()} == {
        "order_9": "succeeded",
        "order_0": "unknown",
        "order_1": "prepared",
    }


# A key that may not say whose it is -----------------------------------------------------------------------------------


def test_a_key_that_may_only_read_is_enough(night: NightShell) -> None:
    """A restricted key does it all, for only GETs are made, once the provider names its account; declared is not named.

    Else a key of another account, put in its place, would be believed.
    """
    night.pay("order_1")
    night.doubt("order_2")
    night.misstate("order_3")
    night.pay_behind_our_back("order_4")
    asked = len(night.asked)
    night.env |= RESTRICTED
    with account_unnamed():
        for declared in ("", night.sandbox.account):
            refused = night.reconcile(PAYCLI_STRIPE_ACCOUNT=declared)
            assert (refused.code, refused.out, "does not name its account" in refused.err) == (2, "", True)
    assert set(night.asked[asked:]) == {"GET /v1/account"}
    run = night.reconcile("--json")
    methods = {line.split()[0] for line in night.asked[asked:]}
    assert (run.code, run.objects[0]["repaired"], methods) == (1, 1, {"GET"})


def test_doctor_and_a_restricted_key(patient: World) -> None:
    """A key that may not ask for its account is fine where the provider's refusal names it, and compared with it."""
    patient.paycli("init")
    healthy(patient)
    ours = patient.sandbox.account
    for declared in ("", ours):
        run = doctor(patient, **RESTRICTED, PAYCLI_STRIPE_ACCOUNT=declared)
        assert (run.code, troubles(run)) == (0, {})
        assert found(run)["account"]["found"] == f"{ours}, said by the provider"
    run = doctor(patient, **RESTRICTED, PAYCLI_STRIPE_ACCOUNT="acct_1Another")
    assert (run.code, troubles(run)) == (2, {"account": "problem"})
    assert found(run)["account"]["found"] == f"the key is of {ours}, PAYCLI_STRIPE_ACCOUNT says acct_1Another"


@pytest.mark.parametrize("declared", [True, False])
def test_doctor_and_a_key_of_an_account_that_is_not_named(patient: World, *, declared: bool) -> None:
    """Where the provider does not name it, it is a wrong setting, whatever a variable declares: what to do is said."""
    patient.paycli("init")
    healthy(patient)
    with account_unnamed():
        run = doctor(patient, **RESTRICTED, PAYCLI_STRIPE_ACCOUNT=patient.sandbox.account if declared else "")
    assert (run.code, troubles(run)) == (2, {"account": "problem", "store": "not checked"})
    told = found(run)["account"]
    assert "give it the permission to read its account" in told["found"]
    assert told["advice"] == "or set a key of this account that has it"
