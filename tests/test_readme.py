"""The README is run: its code, its commands, its diagram and its tables are compared with the program."""

import ast
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from gateway_client import Sandbox
from gateway_client.finding import CRITICAL, Code
from gateway_client.gateways.base import Gateway
from gateway_client.sandbox import FAULT_KINDS, FAULTS
from gateway_client.state import diagram
from tests import readme
from tests.actor_kit import CLAIMS, known

SECONDS_MAX = 60


@pytest.fixture
def sandbox() -> Sandbox:
    return Sandbox()


@pytest.fixture
def environment(sandbox: Sandbox, tmp_path: Path) -> Iterator[dict[str, str]]:
    """What a reader's shell has: a key, an address of a provider, and the commands on its path."""
    with sandbox.serve() as server:
        yield {
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "PYTHONPATH": str(readme.ROOT),
            "STRIPE_API_KEY": sandbox.api_key,
            "PAYCLI_STRIPE_API_BASE": server.url,
            "COLUMNS": "120",
        }


def run(code: str, environment: dict[str, str], folder: Path) -> str:
    """What a Python program prints; it must end well."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_library_example(environment: dict[str, str], sandbox: Sandbox, tmp_path: Path) -> None:
    """The first example charges once, however often it is run."""
    first = run(readme.python("The library", "with Client("), environment, tmp_path)
    second = run(readme.python("The library", "with Client("), environment, tmp_path)
    assert first == second == f"paid by {sandbox.charges[0]['id']}\n"
    assert len(sandbox.charges) == 1


def test_async_example(environment: dict[str, str], sandbox: Sandbox, tmp_path: Path) -> None:
    """AsyncClient has the same words."""
    assert run(readme.python("The library", "AsyncClient("), environment, tmp_path) == "succeeded 19.99 USD\n"
    assert len(sandbox.charges) == 1


def test_fastapi_example(environment: dict[str, str], sandbox: Sandbox, tmp_path: Path) -> None:
    """The FastAPI lines charge an order once, although it is paid twice, and another card as the next attempt (F1)."""
    code = readme.python("In a web service", "FastAPI") + (
        "\nfrom fastapi.testclient import TestClient\n"
        "with TestClient(app) as http:\n"
        "    for _ in range(2):\n"
        "        print(http.post('/orders/order_7/pay', params={'payment_method': 'pm_card_visa'}).json()['state'])\n"
        "    card = {'payment_method': 'pm_card_chargeDeclined'}\n"
        "    told = http.post('/orders/order_8/pay', params=card).json()\n"
        "    new = {'payment_method': 'pm_card_visa', 'attempt': told['next_attempt']}\n"
        "    print(told['state'], http.post('/orders/order_8/pay', params=new).json()['state'])\n"
    )
    assert (
        run(code, environment | {"PYTHONWARNINGS": "ignore"}, tmp_path) == "succeeded\nsucceeded\ndeclined succeeded\n"
    )
    assert dict(sandbox.succeeded()) == {"order_7": 1, "order_8": 1}


def test_django_example(environment: dict[str, str], sandbox: Sandbox, tmp_path: Path) -> None:
    """The Django lines charge after the commit, and not at all when the order is rolled back."""
    code = (
        "from django.conf import settings\n"
        "settings.configure(DATABASES={'default': {'ENGINE': 'django.db.backends.sqlite3', 'NAME': 'orders.db'}})\n"
        "import django\ndjango.setup()\n"
        + readme.python("In a web service", "django")
        + "\nplace_order('order_8')\n"
        + "try:\n    with transaction.atomic():\n        place_order('order_9')\n        raise OSError\n"
        + "except OSError:\n    print(client.find('order_8').state, client.find('order_9'))\n"
    )
    assert run(code, environment, tmp_path) == "succeeded None\n"
    assert dict(sandbox.succeeded()) == {"order_8": 1}


def test_prepare_example(environment: dict[str, str], sandbox: Sandbox, tmp_path: Path) -> None:
    """F2: the lines with SQLAlchemy commit an order and its charge together, and an order that fails has none."""
    code = (
        readme.python("In a web service", "client.prepare")
        + "\nwith engine.begin() as connection:\n    connection.execute(text('CREATE TABLE orders (id TEXT UNIQUE)'))\n"
        + "    connection.execute(text(\"INSERT INTO orders VALUES ('order_2')\"))\n"
        + "client.resume()\nplace_order('order_1')\n"
        + "try:\n    place_order('order_2')\nexcept Exception as error:\n    print(type(error).__name__)\n"
        + "print(client.find('order_1').state, client.find('order_2'))\nclient.close()\nengine.dispose()\n"
    )
    assert run(code, environment, tmp_path) == "IntegrityError\nsucceeded None\n"
    assert dict(sandbox.succeeded()) == {"order_1": 1}


@pytest.mark.parametrize(("example", "passed"), [("def client(sandbox", 1), ("import respx", 2)])
def test_examples_of_the_reader_s_own_tests(
    example: str, passed: int, environment: dict[str, str], tmp_path: Path
) -> None:
    """The fixture for the reader's own tests, and those by respx for both clients, work as they stand."""
    (tmp_path / "test_mine.py").write_text(readme.python("Testing your own code", example), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_mine.py"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    assert f"{passed} passed" in done.stdout


def normal(text: str) -> list[str]:
    """Output without what differs from run to run: ids, keys, times, ports."""
    for pattern, word in (
        (r"\b(pi|ch|req)_[A-Za-z0-9]{10,}", r"\1_…"),
        (r"\bpc1_[a-z2-7]+", "pc1_…"),
        (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?Z?", "TIME"),
        (r"\d{4}-\d\d-\d\d", "DAY"),
        (r"\b\d+ ms\b", "N ms"),
        (r"/\S*/", ""),
    ):
        text = re.sub(pattern, word, text)
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


def test_shell_examples(environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Typing the README's commands, in their order, prints what it shows."""
    monkeypatch.chdir(tmp_path)
    for variable in CLAIMS:
        monkeypatch.delenv(variable, raising=False)
    (tmp_path / "paycli").write_text(f'#!/bin/sh\nexec {sys.executable} -m cli.main "$@"\n', encoding="utf-8")
    (tmp_path / "paycli").chmod(0o755)
    shown = readme.marked("shell")
    assert "$ paycli charge" in shown
    commands = [line.removeprefix("$ ") for line in shown.splitlines() if line.startswith("$ ")]
    printed = []
    for command in commands:
        printed += [f"$ {command}", *typed(command, environment).splitlines()]
    assert normal("\n".join(printed).replace(known(), "billing@web-3")) == normal(shown)


def typed(command: str, environment: dict[str, str]) -> str:
    """What a command prints; one that needs no shell is run in this process, which is faster."""
    if not set(command) & set("|;&$"):
        return CliRunner().invoke(app, shlex.split(command)[1:], env=environment).output
    done = subprocess.run(
        ["bash", "-c", command],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    return done.stdout


def test_doctor_example(environment: dict[str, str], tmp_path: Path) -> None:
    """`paycli doctor` prints what is shown, but for the figures of this machine."""
    (tmp_path / "paycli").write_text(f'#!/bin/sh\nexec {sys.executable} -m cli.main "$@"\n', encoding="utf-8")
    (tmp_path / "paycli").chmod(0o755)

    def printed(command: str) -> str:
        return subprocess.run(
            ["bash", "-c", command],
            env=environment,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS_MAX,
            check=False,
        ).stdout

    shown = readme.marked("doctor")
    printed("paycli init && paycli charge order_42 --amount 1999 --currency usd --payment-method pm_card_visa")
    command = shown.splitlines()[0].removeprefix("$ ")
    lines = normal(f"$ {command}\n{printed(command)}")
    machine = (r"SQLite [\d.]+", r"(?:ok|warning) disk .*", r"\d+ ok, \d+ warning", r"127\.0\.0\.1:\d+")

    def alike(told: list[str]) -> list[str]:
        return [re.sub("|".join(machine), "…", line) for line in told]

    assert alike(lines) == alike(normal(shown))


def test_diagram() -> None:
    """The diagram is the table that the program runs on."""
    assert readme.marked("states") == diagram()


def test_guarantees_name_tests_that_exist() -> None:
    """Every guarantee names a test of this folder."""
    rows = readme.table("Guarantees, by failure")
    assert len(rows) >= 20
    named = [name for row in rows for name in re.findall(r"`(test_\w+)::(test_\w+)`", row[2])]
    assert len(named) >= len(rows)
    missing = [f"{file}::{name}" for file, name in named if name not in functions(file)]
    assert missing == []


def functions(file: str) -> set[str]:
    path = readme.ROOT / "tests" / f"{file}.py"
    if not path.exists():
        return set()
    return {
        node.name
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_settings_are_those_that_are_read() -> None:
    """The table of settings has every variable that the program reads, and no other."""
    sources = ["cli/settings.py", "cli/ages.py", "cli/alerting.py", "gateway_client/gateways/stripe.py"]
    code = "".join((readme.ROOT / path).read_text(encoding="utf-8") for path in sources)
    read = set(re.findall(r'"((?:PAYCLI|STRIPE)_[A-Z_]+)"', code))
    assert {row[0].strip("`") for row in readme.table("Settings")} == read


def test_exit_codes_are_the_program_s() -> None:
    """The table of exit codes lists the four that the program uses, and its help says the same."""
    from cli import main

    codes = [main.DONE, main.PERSON, main.WRONG, main.NOT_NOW]
    rows = readme.table("Exit codes")
    assert [int(row[0]) for row in rows] == codes
    epilog = str(main.app.info.epilog)
    assert [
        f"{row[0]} {row[1].partition(',')[0].partition(';')[0]}" in epilog.replace("settings", "configuration")
        for row in rows
    ] == [True] * 4


def test_codes_are_the_program_s() -> None:
    """The table of codes lists every code that a finding can have, and says of each what the program does."""
    rows = readme.table("Every night")
    assert [row[0].strip("`") for row in rows] == [code.value for code in Code]
    assert [row[0].strip("`") for row in rows if row[2].startswith("flagged, critical")] == [
        code.value for code in Code if code in CRITICAL
    ]


def test_fault_table_is_the_sandbox_s() -> None:
    """The table of faults has every fault of the sandbox, its kind and its meaning, and each example can be set."""
    rows = readme.table("Testing your own code")
    assert rows == [[f"`{name}`", FAULT_KINDS[name], meaning] for name, meaning in FAULTS.items()]
    section = readme.TEXT.split("## Testing your own code")[1].split("\n## ")[0]
    joined = re.findall(r"`(\w+(?:\+\w+)+)`", section)
    assert len(joined) >= 3
    for name in joined:
        Sandbox().fault(name)


def test_gateway_table_is_the_protocol() -> None:
    """Who writes another gateway finds every member of the protocol in the table, and no other."""
    section = readme.TEXT.split("### Writing another gateway")[1].split("\n## ")[0]
    named = [name for row in section.splitlines() if row.startswith("| ") for name in re.findall(r"`(\w+)`", row)]
    assert sorted(named) == sorted(name for name in vars(Gateway) if not name.startswith("_"))


def test_nightly_example(environment: dict[str, str], tmp_path: Path) -> None:
    """The lines for programs reconcile a day, and print what came of it."""
    assert run(readme.python("Every night"), environment, tmp_path) == "True 0 0\n"


@pytest.mark.parametrize("command", ["charge", "resume", "worker", "cancel", "reconcile", "init", "doctor"])
def test_permissions_are_those_used(
    command: str, environment: dict[str, str], sandbox: Sandbox, tmp_path: Path
) -> None:
    """Each command asks the provider for no more than the README says that a restricted key needs."""

    def paycli(*words: str) -> None:
        CliRunner().invoke(app, list(words), env=restricted)

    restricted = environment | {"STRIPE_API_KEY": "rk_test_restricted", "PAYCLI_STRIPE_ACCOUNT": sandbox.account}
    restricted["PAYCLI_DATABASE_URL"] = f"sqlite:///{tmp_path / 'paycli.db'}"
    charge = ("charge", "order_1", "--amount", "100", "--currency", "usd", "--payment-method")
    if command != "init":
        paycli("init")
    if command in ("resume", "worker", "cancel", "reconcile"):  # an unknown one to resume, or one that waits to cancel
        sandbox.fault("error_500", times=2)
        paycli(*charge, "pm_usBankAccount" if command == "cancel" else "pm_card_visa")
    if command == "charge":
        sandbox.fault("error_500", times=2)
    before = len(sandbox.requests)
    paycli(
        *{
            "charge": (*charge, "pm_card_visa"),
            "worker": ("worker", "--until-idle"),
            "cancel": ("cancel", "order_1", "--because", "test"),
            "reconcile": ("reconcile", "--date", "today"),
        }.get(command, (command,))
    )
    used = {(request.path.split("/")[2], request.method) for request in sandbox.requests[before:]}
    [row] = [row for row in readme.table("What a restricted key needs") if f"`{command}`" in row[0]]
    allowed = {"write": {"GET", "POST"}, "read": {"GET"}, "none": set()}
    granted = {("payment_intents", method) for method in allowed[row[1]]} | {
        ("charges", method) for method in allowed[row[2]]
    }
    assert used - {("account", "GET")} <= granted
    assert ("account", "GET") in used or command == "cancel"


def test_demo_block_is_what_the_demo_prints(tmp_path: Path) -> None:
    """The README's demo block has every line that ends the demo, with figures of its own."""

    def shapes(text: str) -> list[str]:
        return [re.sub(r"[\d.]+", "N", " ".join(line.split())) for line in text.splitlines() if line[:1].strip()]

    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(readme.ROOT), "COLUMNS": "120"}
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "demo", "--intents", "12"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    assert done.returncode == 0
    shown = shapes(readme.marked("demo"))
    assert [line for line in shapes(done.stdout) if line not in shown] == []
