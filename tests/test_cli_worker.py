"""`paycli worker` against a sandbox on a port: what it prints, its exit codes, and signals sent to real processes."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen

import pytest

from cli import output
from tests.cli_world import World
from tests.worker_child import PAUSE_S
from tests.worker_yard import LONG_AGO, WAIT_S_MAX, leased, posts, prepare, process, sql, until, worker_shell

ON_A_SERVER = pytest.mark.parametrize("shell", ["postgresql"], indirect=True)  # several processes each


@pytest.fixture(params=["sqlite", "postgresql"])
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    with worker_shell(tmp_path, request.param) as made:
        yield made


def test_until_idle(shell: World) -> None:
    """It finishes what is due, prints each charge, and is exit 0 when nothing pending is left."""
    prepare(shell, 3)
    run = shell.paycli("worker", "--until-idle")
    assert run.code == 0
    assert run.out.splitlines() == [f"order_{number}  attempt 1  19.99 USD  succeeded" for number in range(3)]
    assert run.err.splitlines() == ["working, at most 25 sends a second", "ended: worked on 3, finished 3"]
    assert shell.sandbox.succeeded() == {f"order_{number}": 1 for number in range(3)}


def test_something_is_left(shell: World) -> None:
    """A charge that it could not finish now is exit 1 with --until-idle, and is worked on again a little later."""
    prepare(shell, 1)
    shell.sandbox.fault("lost_reply")
    run = shell.paycli("worker", "--until-idle", "--json")
    assert (run.code, [each.get("state") for each in run.objects]) == (1, [None, "unknown", None, None])
    [(aside,)] = sql(shell, "SELECT resume_at > CURRENT_TIMESTAMP FROM pending_charges")
    assert aside == 1


def test_for_programs(shell: World) -> None:
    """With --json each line is an object with its time and its kind; a charge has all of its fields."""
    prepare(shell, 1)
    run = shell.paycli("worker", "--until-idle", "--json")
    assert [each["event"] for each in run.objects] == ["note", "charge", "note"]
    assert all(each["at"].endswith("Z") for each in run.objects)
    assert list(run.objects[1]) == ["at", "event", *shell.paycli("show", "order_0", "--json").objects[0]][:-1]
    assert (run.err, run.code) == ("", 0)


def test_provider_is_down(shell: World) -> None:
    """With nobody at the provider's port --until-idle is exit 3; nothing was sent, and every row is anybody's."""
    prepare(shell, 2)
    shell.server.close()
    run = shell.paycli("worker", "--until-idle")
    assert run.code == 3
    assert "Nothing is lost; run it again." in run.err
    assert sql(shell, "SELECT DISTINCT state, leased_by, resume_at FROM pending_charges") == [("prepared", None, None)]


@pytest.mark.parametrize("arguments", [("--rate", "0"), ("--rate", "nan"), ("--rate", "x")])
def test_wrong_usage(shell: World, arguments: tuple[str, str]) -> None:
    """An unusable rate is exit 2 before anything is asked."""
    asked = len(shell.sandbox.requests)
    assert shell.paycli("worker", *arguments).code == 2
    assert len(shell.sandbox.requests) == asked


def test_a_refused_key(shell: World) -> None:
    """A key that the provider refuses is exit 2, also for a worker that would wait for anything else."""
    prepare(shell, 1)
    shell.sandbox.revoke(shell.env["STRIPE_API_KEY"])
    assert shell.paycli("worker").code == 2


def test_no_database(shell: World, tmp_path: Path) -> None:
    """Without a store there is nothing to work on: exit 2, and none is created."""
    run = shell.paycli("worker", PAYCLI_DATABASE_URL=f"sqlite:///{tmp_path}/none.db")
    assert (run.code, (tmp_path / "none.db").exists()) == (2, False)


def test_status_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A person's terminal gets one line, written anew; nothing in it steers the terminal, and a pipe gets none."""
    piped = output.StatusLine()
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    line = output.StatusLine()
    piped.show("1")
    line.show("worked on 1\x1b[2J")
    line.clear()
    line.clear()
    assert capsys.readouterr().err == "\r\x1b[2Kworked on 1\\x1b[2J\r\x1b[2K"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ended_when_idle(shell: World, number: int) -> None:
    """An idle worker ends within a second of SIGTERM or Ctrl-C, exit 0, and says what it has done."""
    prepare(shell, 2)
    with process(shell, "--json") as worker:
        until("it works", 2, lambda: sum(shell.sandbox.succeeded().values()))
        until("it gives them back", 0, lambda: leased(shell))
        worker.send_signal(number)
        out, err = worker.communicate(timeout=WAIT_S_MAX)
    assert (worker.returncode, err) == (0, "")
    assert json.loads(out.splitlines()[-1])["text"] == "ended: worked on 2, finished 2"


def test_in_the_background(shell: World) -> None:
    """D9: a worker whose parent ignores Ctrl-C ignores it as well, works on, and ends by SIGTERM, exit 0."""
    prepare(shell, 1)
    earlier = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with process(shell, "--json") as worker:
            until("it works", 1, lambda: sum(shell.sandbox.succeeded().values()))
            worker.send_signal(signal.SIGINT)
            prepare(shell, 2)
            until("it works on", 2, lambda: sum(shell.sandbox.succeeded().values()))
            worker.terminate()
            _, err = worker.communicate(timeout=WAIT_S_MAX)
    finally:
        signal.signal(signal.SIGINT, earlier)
    assert (worker.returncode, err) == (0, "")


def test_ended_in_the_middle_of_a_send(shell: World) -> None:
    """SIGTERM during a send: its answer is awaited, settled, no other is begun, and its leases are released (F10)."""
    prepare(shell, 20)
    shell.sandbox.slow_s = 1.0
    shell.sandbox.fault("slow", times=20)
    with process(shell) as worker:
        until("a send is on its way", 1, lambda: min(posts(shell), 1))
        worker.terminate()
        out, err = worker.communicate(timeout=WAIT_S_MAX)
    assert (worker.returncode, len(out.splitlines()), posts(shell)) == (0, 1, 1), err
    states = sql(
        shell, "SELECT state, count(*), count(leased_by), count(resume_at) FROM pending_charges GROUP BY state"
    )
    assert states == [("prepared", 19, 0, 0), ("succeeded", 1, 0, 0)]


def test_killed(shell: World) -> None:
    """SIGKILL in the middle of a queue: its rows wait for its lease, then others finish them, each once (F06)."""
    prepare(shell, 20)
    with process(shell, "--rate", "20") as worker:
        until("it works", 3, lambda: min(sum(shell.sandbox.succeeded().values()), 3))
        worker.kill()
        worker.communicate(timeout=WAIT_S_MAX)
    shell.paycli("worker", "--until-idle")
    assert len(sql(shell, "SELECT 1 FROM pending_charges WHERE leased_by IS NOT NULL AND state <> 'succeeded'")) > 10
    sql(shell, f"UPDATE pending_charges SET leased_until = '{LONG_AGO}'")  # as time would
    sql(shell, f"UPDATE paycli_sends SET begun_at = '{LONG_AGO}' WHERE ended_at IS NULL")
    assert shell.paycli("worker", "--until-idle").code == 0
    assert shell.sandbox.succeeded() == {f"order_{number}": 1 for number in range(20)}


def stopped(shell: World, worker: Popen[str], statement: str) -> None:
    """It has stopped itself; `statement` is what the time that passes does to the store."""
    _, status = os.waitpid(worker.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    assert leased(shell) == 1
    sql(shell, statement)
    time.sleep(PAUSE_S + 0.1)  # the pause itself


def woken(worker: Popen[str]) -> None:
    worker.send_signal(signal.SIGCONT)
    worker.communicate(timeout=WAIT_S_MAX)


@pytest.mark.parametrize("point", ["begin", "send"])
def test_stopped_past_its_lease(shell: World, point: str) -> None:
    """SIGSTOP just before its send, woken when its lease is over: it reads its lease again and sends nothing (F11)."""
    prepare(shell, 1)
    with process(shell, "--until-idle", module=f"tests.worker_child {point}") as worker:
        stopped(shell, worker, f"UPDATE pending_charges SET leased_until = '{LONG_AGO}'")
        woken(worker)
    assert (sql(shell, "SELECT count(*) FROM paycli_sends"), posts(shell)) == ([(int(point == "send"),)], 0)
    assert worker.returncode == 1  # something pending is left, to another worker
    sql(shell, "UPDATE pending_charges SET resume_at = NULL, leased_until = NULL")
    assert shell.paycli("worker", "--until-idle").code == 0
    assert shell.sandbox.succeeded() == {"order_0": 1}


@ON_A_SERVER
@pytest.mark.parametrize("point", ["begin", "send"])
def test_stopped_and_taken_over(shell: World, point: str) -> None:
    """The same, when another worker has taken and charged the row: the one that is woken finds it so (F11, F112)."""
    prepare(shell, 1)
    with process(shell, "--until-idle", module=f"tests.worker_child {point}") as worker:
        stopped(shell, worker, f"UPDATE pending_charges SET leased_until = '{LONG_AGO}'")
        sql(shell, f"UPDATE paycli_sends SET begun_at = '{LONG_AGO}'")  # nobody waits for its answer any more
        assert shell.paycli("worker", "--until-idle").code == 0
        before = sql(shell, "SELECT * FROM pending_charges")
        woken(worker)
    assert (worker.returncode, posts(shell), shell.sandbox.succeeded()) == (0, 1, {"order_0": 1})
    assert sql(shell, "SELECT * FROM pending_charges") == before


@ON_A_SERVER
@pytest.mark.parametrize("point", ["begin", "send"])
def test_stopped_past_its_key_s_life(shell: World, point: str) -> None:
    """SIGSTOP just before it sends once more, woken under its lease when the key's life is over: it reads that again,
    sends nothing, and the attempt is closed by the next who looks (F11, F95)."""
    prepare(shell, 1)
    shell.sandbox.fault("lost_request")
    assert shell.paycli("worker", "--until-idle").code == 1
    sql(shell, "UPDATE pending_charges SET resume_at = NULL")
    with process(shell, "--until-idle", module=f"tests.worker_child {point}") as worker:
        stopped(shell, worker, f"UPDATE pending_charges SET first_sent_at = '{LONG_AGO}'")
        woken(worker)
    assert (worker.returncode, posts(shell)) == (1, 1)
    sql(shell, "UPDATE pending_charges SET resume_at = NULL")
    assert shell.paycli("worker", "--until-idle").code == 1
    [(state, closed)] = sql(shell, "SELECT state, closed_at IS NOT NULL FROM pending_charges")
    assert (state, closed, posts(shell)) == ("unknown", True, 1)
