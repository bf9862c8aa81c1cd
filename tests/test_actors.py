"""Who changed a store: the user that the system knows, what it is called besides, and the server's user.

Not here: each command of `paycli` (`test_cli_actors.py`), which program holds a lease (`test_reconcile_leases.py`).
"""

from __future__ import annotations

import ast
import os
import pwd
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.orm import Session

from gateway_client import Client, PaymentIntent, Sandbox, Stripe
from gateway_client.actor import actor, described, name_of
from gateway_client.flow.effects import GiveUp
from reconcile.alerts import Alert
from reconcile.store.told import read_told, remember
from reconcile.told import news
from tests import postgres
from tests.actor_kit import CLAIMS, HOST, known, name
from tests.cli_world import DATABASES, ROOT
from tests.kit import KINDS, ORDER
from tests.kit import World as Library
from tests.nightly import DATABASES as NIGHTS
from tests.nightly import Night

UID_OF_NOBODY_MAX = 2**31 - 7


@pytest.fixture(autouse=True)
def nothing_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs these tests claims nothing but what a test says."""
    for variable in CLAIMS:
        monkeypatch.delenv(variable, raising=False)


# The words ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "claimed"),
    [
        ({}, ""),
        ({"LOGNAME": name(), "USER": name()}, ""),
        ({"LOGNAME": "ceo"}, ", claims to be 'ceo'"),
        ({"USER": "ceo", "LOGNAME": "ceo"}, ", claims to be 'ceo'"),
        ({"SUDO_USER": "ann", "LOGNAME": name(), "USER": "ceo"}, ", claims to be 'ann' and 'ceo'"),
        ({"USER": "x\n\udcff\x1b\u202e"}, r", claims to be 'x\n\udcff\x1b\u202e'"),
        ({"USER": "x" * 5000}, f", claims to be '{'x' * 64}'"),
        ({"USER": "ann', database user 'admin"}, ''', claims to be "ann', database user 'admin"'''),
        ({"USER": "'\""}, r""", claims to be '\'"'"""),
    ],
)
def test_claims(environ: dict[str, str], claimed: str) -> None:
    """E3: the name is the real user's; what the environment says besides is marked as claimed, quoted, and last."""
    assert described(os.getuid(), "web-3", environ, None) == f"{name()}@web-3{claimed}"


def test_a_user_without_a_name() -> None:
    """E3: a user that the system's list does not name is told by its number, whatever it is called besides."""
    told = described(UID_OF_NOBODY_MAX, "web-3", {"LOGNAME": "root"}, "app")
    assert told == f"uid {UID_OF_NOBODY_MAX}@web-3, database user app, claims to be 'root'"


def test_the_real_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """E3: it is the user who started a program, not the one whose rights the program took on."""
    monkeypatch.setattr(os, "getuid", lambda: UID_OF_NOBODY_MAX)
    monkeypatch.setattr(os, "geteuid", lambda: UID_OF_NOBODY_MAX - 1)
    assert actor() == f"uid {UID_OF_NOBODY_MAX}@{HOST}"


def test_names_that_are_no_text() -> None:
    """E3: a host or a user of the database whose name steers a terminal is told in printable ASCII."""
    assert described(UID_OF_NOBODY_MAX, "web\x1b", {}, "ap\u202ep") == (
        rf"uid {UID_OF_NOBODY_MAX}@web\x1b, database user ap\u202ep"
    )


SOURCES = [path for folder in ("cli", "reconcile", "gateway_client") for path in sorted((ROOT / folder).rglob("*.py"))]
NAMING = {"pwd", "getpass", "getuser", "getlogin", "getpwuid", "getuid", *CLAIMS}
"""What a user's name can be learnt by."""


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_one_place_names_the_actor(path: Path) -> None:
    """E3: nothing but `actor.py` asks who runs a process: no command has another word for it."""
    words: set[object] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Constant(value=word) | ast.Attribute(attr=word) | ast.Name(id=word) | ast.alias(name=word):
                words.add(word)
            case ast.ImportFrom(module=word):
                words.add(word)
    assert words & NAMING == ({*CLAIMS, "pwd", "getpwuid", "getuid"} if path.name == "actor.py" else set())


# The library ----------------------------------------------------------------------------------------------------------


@pytest.fixture(params=KINDS)
def library(request: pytest.FixtureRequest) -> Iterator[Library]:
    with Library(request.param) as made:
        yield made


def test_a_service_is_named_by_its_user(library: Library) -> None:
    """E3: what a billing service does by the library carries the user it runs as, with either client."""
    library.open_client().charge(ORDER)
    for table in ("paycli_events", "paycli_sends"):
        assert library.sql(f"SELECT DISTINCT actor FROM {table}") == [(known(library.url),)]
    assert library.sql("SELECT bound_by FROM paycli_store") == [(known(library.url),)]


def test_who_gives_up_again(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    """E3: who gives a charge up once more, for the same reason, is kept; the same call done again is not."""
    library.open_client().charge(ORDER)
    library.sql("UPDATE pending_charges SET state = 'processing', settled_at = NULL")
    for claimed in ("ann", "ann", "bob"):
        monkeypatch.setenv("LOGNAME", claimed)
        library.perform(GiveUp(ORDER.intent_id, "the customer left", Stripe.profile))
    given_up = library.sql("SELECT actor FROM paycli_events WHERE event = 'given up: the customer left' ORDER BY 1")
    assert [who for (who,) in given_up] == [f"{known(library.url)}, claims to be '{one}'" for one in ("ann", "bob")]


def watched(engine: Engine, statements: list[str]) -> Engine:
    event.listen(engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
    return engine


@pytest.mark.parametrize("kind", DATABASES)
def test_it_costs_no_statement(kind: str, tmp_path: Path) -> None:
    """E3: the server's user comes with the statement that begins a transaction: a charge has no statement for it."""
    url = f"sqlite:///{tmp_path / 'x.db'}" if kind == "sqlite" else postgres.shown(postgres.fresh_database())
    statements: list[str] = []
    engine = watched(create_engine(url), statements)
    with Client(Stripe(Sandbox.api_key), database=engine, transport=Sandbox().transport()) as client:
        client.charge(ORDER)
    engine.dispose()
    users = [one for one in statements if "user" in one.lower()]
    assert all("lock_timeout" in one and "fsync" in one for one in users)
    assert bool(users) is (kind == "postgresql")


def test_the_list_of_users_is_asked_once(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    """E3: a name is asked for when a client is made, once: the list may be slow, and no transaction waits for it."""
    asked: list[int] = []
    look_up = pwd.getpwuid

    def ask(uid: int) -> pwd.struct_passwd:
        asked.append(uid)
        return look_up(uid)

    monkeypatch.setattr(pwd, "getpwuid", ask)
    name_of.cache_clear()
    client = library.open_client()
    assert asked == [os.getuid()]
    client.charge(ORDER)
    library.open_client().resume()
    assert asked == [os.getuid()]


# The server's user ----------------------------------------------------------------------------------------------------


@pytest.fixture
def as_app() -> Iterator[Engine]:
    """Connections of a user who logs in as `ann`, and works as `app` from then on."""
    url = postgres.fresh_database()
    owner = create_engine(url)
    made = f"ann_{url.database}", f"app_{url.database}"
    ann, role = made
    for statement in (
        f"CREATE ROLE {role} SUPERUSER",
        f"CREATE ROLE {ann} LOGIN IN ROLE {role}",
        f"ALTER ROLE {ann} SET role = '{role}'",
    ):
        postgres.sql(owner, statement)
    engine = create_engine(url.set(username=ann))
    yield engine
    engine.dispose()
    for role in made:
        postgres.sql(owner, f"DROP ROLE {role}")
    owner.dispose()


def test_the_user_who_logged_in(as_app: Engine) -> None:
    """E3: on PostgreSQL the actor has the user who logged in, whatever role it works as: in the library's own
    transactions, and in the caller's that a charge is prepared in."""
    ((ann, role),) = postgres.sql(as_app, "SELECT session_user::text, current_user::text")
    assert ann != role
    with Client(Stripe(Sandbox.api_key), database=as_app, transport=Sandbox().transport()) as client:
        client.charge(ORDER)
        with Session(as_app) as session:
            client.prepare(PaymentIntent("order_43", ORDER.amount, ORDER.payment_method), session)
            session.commit()
    kept = postgres.sql(as_app, "SELECT DISTINCT intent_id, actor FROM paycli_events ORDER BY 1")
    assert kept == [(one, f"{name()}@{HOST}, database user {ann}") for one in ("order_42", "order_43")]


# Runs and alerts ------------------------------------------------------------------------------------------------------


@pytest.fixture(params=NIGHTS)
def night(request: pytest.FixtureRequest) -> Iterator[Night]:
    with Night(request.param) as made:
        yield made


def test_who_goes_on_with_a_run(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    """E3: a run that one user began and another one ended names both."""
    monkeypatch.setenv("LOGNAME", "ann")
    night.pay("order_1")
    night.answer(500, on=("GET", "/v1/charges"), times=100)
    assert not night.run().complete
    monkeypatch.setenv("LOGNAME", "bob")
    night.hooks.clear()
    assert night.run().complete
    who = known(night.url)
    assert night.sql("SELECT begun_by, worked_by FROM paycli_runs") == [
        (f"{who}, claims to be 'ann'", f"{who}, claims to be 'bob'")
    ]


def test_who_told_an_alert(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    """E3: who told a receiver of a cause, so that no other call tells it, is kept until it is told anew or over."""

    def tell(claimed: str, *causes: str) -> None:
        monkeypatch.setenv("LOGNAME", claimed)
        found = [Alert(cause, 1, None, None, "planted") for cause in causes]
        told = night.transact(lambda tx: read_told(tx, "receiver"))
        now = night.clock.now
        night.transact(lambda tx: remember(tx, "receiver", news(found, told, now, None)))
        night.clock.advance(seconds=60)

    tell("ann", "a", "b")
    tell("bob", "b", "c")
    who = known(night.url)
    assert night.sql("SELECT cause, told_by FROM paycli_told_alerts ORDER BY 1") == [
        ("b", f"{who}, claims to be 'ann'"),
        ("c", f"{who}, claims to be 'bob'"),
    ]
