"""`paycli init`, `show`, `pending`, `states` and `sandbox`, and what the program as a whole promises."""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import make_url

from cli import output
from gateway_client.sandbox import FAULTS
from gateway_client.state import diagram
from tests import postgres
from tests.cli_world import API_KEY, CARD, DATABASES, ON_A_FILE, World, world
from tests.test_cli import CHARGE_FIELDS

NO_KEY = {"STRIPE_API_KEY": ""}


@pytest.fixture(params=DATABASES)
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    with world(
        tmp_path, None if request.param == "sqlite" else postgres.shown(postgres.fresh_database(empty=True))
    ) as made:
        yield made


COMMANDS = (
    "init charge resume worker cancel show pending reconcile findings resolve alerts sandbox doctor states demo".split()
)


@ON_A_FILE
def test_help_lists_every_command(shell: World) -> None:
    """`paycli --help` names all commands, in their order (what it imports: `test_startup.py`)."""
    lines = shell.paycli("--help").out.partition("Commands:\n")[2].splitlines()
    assert [line.split()[0] for line in lines[: len(COMMANDS)]] == COMMANDS


@ON_A_FILE
def test_no_option_takes_a_key(shell: World) -> None:
    """No command has an option for a secret: an argument list is world-readable."""
    for command in COMMANDS:
        text = shell.paycli(command, "--help").out.lower()
        assert "--api-key" not in text
        assert "--key" not in text


@ON_A_FILE
def test_init(shell: World) -> None:
    """Init makes a file for its owner only, binds it to the key's account, says so, and is safe to run twice."""
    first, second = shell.paycli("init"), shell.paycli("init")
    belongs = f"it belongs to stripe account {shell.sandbox.account}, test mode, namespace default"
    assert (first.code, first.out.splitlines()) == (0, [f"created {shell.path}", belongs])
    assert (second.code, second.out.splitlines()) == (0, [f"{shell.path} is up to date", belongs])
    assert shell.path.stat().st_mode & 0o777 == 0o600
    assert shell.paycli("init", **NO_KEY).out.splitlines()[1] == belongs


def test_init_without_a_key(shell: World) -> None:
    """Without a key the tables are made, and the first charge binds them."""
    run = shell.paycli("init", **NO_KEY)
    url = make_url(shell.env["PAYCLI_DATABASE_URL"])  # a database on a server has been made by somebody else
    made = (
        f"created {shell.path}" if url.host is None else f"added our tables to {url.database} on {url.host}:{url.port}"
    )
    assert (run.code, run.out.splitlines()[0]) == (0, made)
    assert "the first charge binds it" in run.out
    assert shell.charge("order_1").code == 0
    assert shell.charge("order_2", PAYCLI_NAMESPACE="other").code == 2


@ON_A_FILE
def test_init_where_it_cannot(shell: World) -> None:
    """A missing folder is exit 2, a provider that is down exit 3, and a live key on a test store exit 2."""
    missing = f"sqlite:///{shell.folder / 'none' / 'paycli.db'}"
    assert shell.paycli("init", PAYCLI_DATABASE_URL=missing).code == 2
    assert shell.paycli("init", PAYCLI_STRIPE_API_BASE="http://127.0.0.1:1").code == 3
    assert shell.paycli("init").code == 0
    live = API_KEY.replace("_test_", "_live_")
    assert shell.paycli("init", STRIPE_API_KEY=live, PAYCLI_STRIPE_API_BASE="").code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("charge", "order_1", *CARD),
        ("resume",),
        ("cancel", "order_1", "--because", "x"),
        ("show", "order_1"),
        ("pending",),
    ],
)
@ON_A_FILE
def test_only_init_creates_a_database(shell: World, arguments: tuple[str, ...]) -> None:
    """On a missing file every other command is exit 2 and names the absolute path; a file without tables says init."""
    missing = shell.paycli(*arguments)
    assert missing.code == 2
    assert f"there is no database at {shell.path}" in missing.err
    assert not shell.path.exists()
    sqlite3.connect(shell.path).close()
    shell.path.touch()
    empty = shell.paycli(*arguments)
    assert empty.code == 2
    assert f"{shell.path} has no tables of ours: run `paycli init`" in empty.err


def test_show(shell: World) -> None:
    """Show needs no key, prints every attempt with its history, and only its own fields name an intent and a state."""
    shell.paycli("init")
    shell.charge("order_42", "--payment-method", "pm_card_chargeDeclined")
    shell.charge("order_42", "--attempt", "2")
    run = shell.paycli("show", "order_42", "--json", **NO_KEY)
    assert (run.code, [list(one) for one in run.objects]) == (0, [[*CHARGE_FIELDS, "history"]] * 2)
    assert [one["state"] for one in run.objects] == ["declined", "succeeded"]
    history = run.objects[1]["history"]
    assert [entry["kind"] for entry in history] == ["event", "event", "send", "event"]
    assert [entry.get("event", entry.get("outcome")) for entry in history] == [
        "claimed",
        "send begun",
        "succeeded",
        "succeeded",
    ]
    assert [entry["at"] for entry in history] == sorted(entry["at"] for entry in history)
    assert not any("intent_id" in entry or "state" in entry for one in run.objects for entry in one["history"])
    people = shell.paycli("show", "order_42", **NO_KEY)
    assert "order_42, attempt 2: succeeded" in people.out
    assert history[2]["request_id"] in people.out
    assert shell.paycli("show", "order_43").code == 2


def test_pending(shell: World) -> None:
    """Pending lists every pending charge without a key; exit 1 only when one is older than the threshold."""
    shell.paycli("init")
    nothing = shell.paycli("pending", "--json", **NO_KEY)
    assert (nothing.code, nothing.out) == (0, "")
    shell.sandbox.fault("lost_request")
    charged = shell.charge("order_42").objects
    run = shell.paycli("pending", "--json", **NO_KEY)
    assert (run.code, run.objects) == (0, charged)
    assert shell.paycli("pending", "--older-than", "0s").code == 1
    people = shell.paycli("pending", "--older-than", "7d")
    assert people.code == 0
    assert people.out.splitlines()[0].split() == ["age", "state", "intent", "attempt", "amount", "reason"]
    assert people.out.splitlines()[1].split()[1:6] == ["unknown", "order_42", "1", "19.99", "USD"]


def test_pending_by_state(shell: World) -> None:
    """C3: each state has an age of its own: variables set them, options before variables, and exit 1 follows them."""
    shell.paycli("init")
    shell.sandbox.fault("lost_request")
    shell.charge("order_42")
    never, always = {"PAYCLI_OLDER_THAN": "0s,unknown=7d"}, {"PAYCLI_OLDER_THAN": "7d,unknown=0s"}
    assert (shell.paycli("pending", **never).code, shell.paycli("pending", **always).code) == (0, 1)
    assert shell.paycli("pending", "--older-than", "unknown=0s", **never).code == 1
    assert shell.paycli("pending", "--older-than", "0s", "--older-than", "unknown=1d").code == 0
    assert shell.paycli("pending", "--older-than", "unknown=1d", "--older-than", "0s").code == 1
    for text in ("succeeded=1d", "debit=1d", "=1d", "unknown=", "unknown=1d,prepared=1d"):
        wrong = shell.paycli("pending", "--older-than", text)
        assert (wrong.code, wrong.out, "--older-than: must " in wrong.err) == (2, "", True), text
        variable = shell.paycli("pending", PAYCLI_OLDER_THAN=text)
        assert variable.code == (0 if "," in text else 2)
    assert "PAYCLI_OLDER_THAN must " in shell.paycli("pending", PAYCLI_OLDER_THAN="x").err


@pytest.mark.parametrize("text", ["", "24", "h", "-1h", "1.5h", "1w", "1h ", "9999999999d"])
@ON_A_FILE
def test_bad_durations(shell: World, text: str) -> None:
    """A duration that is none is exit 2."""
    run = shell.paycli("pending", "--older-than", text)
    assert (run.code, run.err.split(":")[1]) == (2, " --older-than")


@ON_A_FILE
def test_states(shell: World) -> None:
    """States prints the diagram, and needs neither key nor database."""
    run = shell.paycli("states", **NO_KEY)
    assert (run.code, run.out) == (0, diagram())


def test_escape_codes_do_nothing(shell: World) -> None:
    """What is stored cannot steer a terminal: escape codes and markup are printed as text."""
    shell.paycli("init")
    shell.sandbox.fault("lost_request")
    shell.charge("order_42")
    shell.sql("UPDATE pending_charges SET reason = ?", ("\x1b[2J[bold]\u202eno\x07\x7f",))
    for arguments in (("show", "order_42"), ("pending",)):
        text = shell.paycli(*arguments).out
        assert r"\x1b[2J[bold]\u202eno\x07\x7f" in text
    line = shell.paycli("pending", "--json").out
    assert not set("\x1b\u202e\x07\x7f") & set(line)
    assert json.loads(line)["reason"] == "\x1b[2J[bold]\u202eno\x07\x7f"


def test_a_table_is_aligned_and_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    """Columns are as wide as what is printed in them, and never cut."""
    output.table(("name", "n"), [("a\nb", 5), ("c" * 200, 10)], right=(1,))
    assert capsys.readouterr().out.splitlines()[1:] == [f"a\\nb{' ' * 196}   5", f"{'c' * 200}  10"]


@ON_A_FILE
def test_sandbox_runs_until_ctrl_c(shell: World) -> None:
    """The sandbox prints what to export, serves on a loopback port, and ends on Ctrl-C with exit 0."""
    arguments, env = shell.command("sandbox", "--port", "0", "--fault", "lost_reply=0.2", "--seed", "7")
    child = subprocess.Popen(arguments, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with child:
        try:
            assert child.stdout is not None
            exported = dict(child.stdout.readline().removeprefix("export ").strip().split("=") for _ in range(2))
            headers = {"Authorization": f"Bearer {exported['STRIPE_API_KEY']}"}
            url = f"{exported['PAYCLI_STRIPE_API_BASE']}/v1/account"
            assert httpx.get(url, headers=headers, trust_env=False, timeout=5).status_code == 200
            child.send_signal(signal.SIGINT)
            _, err = child.communicate(timeout=20)
        finally:
            child.kill()
    assert child.returncode == 0
    assert "ended after 1 requests and 0 charges" in err


@ON_A_FILE
def test_sandbox_refuses(shell: World) -> None:
    """A port in use, an unknown fault and an impossible rate are exit 2; the known faults are named."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        run = shell.paycli("sandbox", "--port", str(taken.getsockname()[1]))
    assert run.code == 2
    assert "is in use" in run.err
    unknown = shell.paycli("sandbox", "--fault", "lost=0.2")
    assert unknown.code == 2
    assert all(name in unknown.err for name in FAULTS)
    for bad in ("lost_reply", "lost_reply=x", "lost_reply=2", "lost_reply=nan", "slow+slow=0.1"):
        assert shell.paycli("sandbox", "--fault", bad).code == 2


@ON_A_FILE
def test_sandbox_help_lists_the_faults(shell: World) -> None:
    """The help of the sandbox has every fault with its meaning, and says how they are joined."""
    text = " ".join(shell.paycli("sandbox", "--help").out.split())
    assert [name for name, meaning in FAULTS.items() if f"{name} {meaning}" not in text.replace("- ", "-")] == []
    assert "error_500_later+page_200_html" in text


@ON_A_FILE
def test_usage_errors(shell: World) -> None:
    """A missing or unknown option, and an unknown command, are exit 2."""
    assert shell.paycli("charge", "order_1").code == 2
    assert shell.paycli("show").code == 2
    assert shell.paycli("pending", "--nonsense").code == 2
    assert shell.paycli("reconcile").code == 2
    assert shell.paycli().code == 2
