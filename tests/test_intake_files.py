"""Files with two names, each tried: SQLite keeps a log beside each name, so a second one would be a second store (P15).

Engines and sessions are `test_intake.py`'s.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from gateway_client import Client, ConfigurationError, OutcomeNotRecorded, State, Stripe, intake
from gateway_client.intake import is_mount_point
from tests import postgres
from tests.cli_world import CARD, ON_A_FILE, World, world
from tests.doctor_kit import doctor, doctor_shell, found
from tests.intake_kit import KINDS, SQLITE, Shop
from tests.kit import ORDER

ROOT = Path(__file__).resolve().parent.parent
TWO_NAMES = r"has 2 names \(hard links\).*two names are two logs.*remove the others"
MOUNTED = "is mounted by itself.*two names are two logs.*mount its folder instead"
SECONDS_MAX = 60


@pytest.fixture(params=KINDS)
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    with Shop(SQLITE, request.param, tmp_path) as made:
        yield made


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


# Hard links -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["charges.db", "second.db"])
def test_a_file_with_two_names(name: str, shop: Shop) -> None:
    """P15: a file with a hard link is refused by either name, by URL or engine; once the link is gone, it works."""
    os.link(shop.path, shop.folder / "second.db")
    url = shop.url.set(database=str(shop.folder / name))
    for database in (postgres.shown(url), shop.engine(url=url)):
        with pytest.raises(ConfigurationError, match=TWO_NAMES):
            shop.charge(database)
    assert (shop.posts, shop.states()) == (0, [])
    (shop.folder / "second.db").unlink()
    assert shop.charge(postgres.shown(shop.url)) is State.SUCCEEDED


def test_a_second_name_while_it_is_open(tmp_path: Path) -> None:
    """P15: a link that is made to an open store stops its next write, and no other one once it is gone."""
    with Shop(SQLITE, "sync", tmp_path) as shop, shop.client(postgres.shown(shop.url)) as client:
        client.prepare(ORDER)
        os.link(shop.path, tmp_path / "second.db")
        with pytest.raises(ConfigurationError, match=TWO_NAMES):
            client.charge(ORDER)
        assert (shop.posts, shop.states()) == (0, ["prepared"])
        (tmp_path / "second.db").unlink()
        assert client.charge(ORDER).state is State.SUCCEEDED


def test_a_second_name_while_a_send_is_on_its_way(shop: Shop) -> None:
    """P15: the caller hears of a charge whose outcome is not written for that reason; resume finishes it, once."""
    linked = shop.folder / "second.db"
    shop.before_answers(lambda: os.link(shop.path, linked))
    with pytest.raises(OutcomeNotRecorded, match=r"succeeded \(charge ch_.*two names are two logs.*run resume"):
        shop.charge(postgres.shown(shop.url))
    assert shop.states() == ["sending"]
    linked.unlink()
    assert shop.charge(postgres.shown(shop.url)) is State.SUCCEEDED
    assert shop.sandbox.succeeded()["order_42"] == 1


def test_a_session_on_a_file_with_two_names(shop: Shop) -> None:
    """P15: neither is a charge prepared in the caller's transaction on such a file."""

    def link(session: Session) -> None:
        os.link(shop.path, shop.folder / "second.db")

    with pytest.raises(ConfigurationError, match=TWO_NAMES):
        shop.prepare(shop.engine(), link)
    assert (shop.states(), shop.orders()) == ([], 0)


@ON_A_FILE
def test_commands_on_a_file_with_two_names(shell: World) -> None:
    """P15: every command refuses it as a wrong setting, exit 2, in the same words; init makes no tables in it."""
    for command in (["charge", "order_1", *CARD], ["init"], ["pending"], ["resume"], ["reconcile", "--date", "today"]):
        shell.path.unlink(missing_ok=True)
        shell.path.with_name("second.db").unlink(missing_ok=True)
        if command != ["init"]:
            assert shell.paycli("init").code == 0
        shell.path.touch()
        os.link(shell.path, shell.path.with_name("second.db"))
        run = shell.paycli(*command)
        assert (command, run.code) == (command, 2)
        assert "two names are two logs" in run.err
    assert [request.method for request in shell.sandbox.requests if request.method == "POST"] == []


def test_doctor_of_a_file_with_two_names(tmp_path: Path) -> None:
    """P15: doctor tells the same refusal and does not crash on it: what needs the database is not checked."""
    with doctor_shell(tmp_path) as shell:
        assert shell.paycli("init").code == 0
        os.link(shell.path, shell.folder / "second.db")
        run = doctor(shell)
        assert run.code == 2
        database = found(run)["database"]
        assert (database["result"], "two names are two logs" in database["found"]) == ("problem", True)
        assert "internal error" not in run.out


# Symbolic links -------------------------------------------------------------------------------------------------------

THERE = """
import sys
from gateway_client import Client, Money, PaymentIntent, Sandbox, Stripe
with Client(Stripe(Sandbox.api_key), database=sys.argv[1]) as client:
    print(client.find("order_42").state)
    print(client.prepare(PaymentIntent("there", Money(2000, "usd"), "pm_card_visa")).state)
"""


def test_a_symbolic_link(tmp_path: Path) -> None:
    """P15: two processes, one of them through a symbolic link, have one log: each sees what the other committed."""
    with Shop(SQLITE, "sync", tmp_path) as shop, shop.client(postgres.shown(shop.url)) as client:
        link = tmp_path / "elsewhere" / "linked.db"
        link.parent.mkdir()
        link.symlink_to(shop.path)
        client.prepare(ORDER)
        done = subprocess.run(
            [sys.executable, "-c", THERE, f"sqlite:///{link}"],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=SECONDS_MAX,
            check=False,
        )
        assert (done.stdout.split(), done.stderr) == (["prepared", "prepared"], "")
        assert client.find("there") is not None
        assert client.charge(ORDER).state is State.SUCCEEDED
        assert [path.name for path in link.parent.iterdir()] == ["linked.db"]


def test_a_session_through_a_symbolic_link(shop: Shop) -> None:
    """P14: a session is of the client's database by the file that it is, whatever name it was opened by."""
    link = shop.folder / "linked.db"
    link.symlink_to(shop.path)
    shop.prepare(shop.engine(url=shop.url.set(database=str(link))))
    assert (shop.states(), shop.orders()) == (["prepared"], 1)


# Mounts ---------------------------------------------------------------------------------------------------------------

MOUNTS = r"""
22 1 254:0 / / rw,relatime - ext4 /dev/root rw
36 22 0:33 / /dev/shm rw - tmpfs tmpfs rw
41 22 254:0 /var/lib/shop /srv/my\040shop rw,relatime master:1 - ext4 /dev/root rw
42 22 254:0 /var/lib/shop/charges.db /data/charges.db rw,relatime - ext4 /dev/root rw
43 22 254:0 /var/lib/x.db /data/two\040words\011and\134more.db rw - ext4 /dev/root rw
broken
"""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/data/charges.db", True),
        ("/data/two words\tand\\more.db", True),
        ("/data/other.db", False),
        ("/data/charges.db-wal", False),
        ("/srv/my shop/charges.db", False),
        ("/var/lib/shop/charges.db", False),
        ("/", True),
    ],
)
def test_mount_points(path: str, *, expected: bool) -> None:
    """P15: a file is mounted by itself when /proc/self/mountinfo lists its very path, whatever its folder is."""
    assert is_mount_point(path, MOUNTS) is expected


def test_a_link_to_a_mounted_file(tmp_path: Path) -> None:
    """P15: a symbolic link does not hide a mount."""
    (tmp_path / "linked.db").symlink_to(tmp_path / "charges.db")
    assert is_mount_point(str(tmp_path / "linked.db"), f"42 22 0:3 / {tmp_path}/charges.db rw - ext4 /dev/root rw")


@contextmanager
def listed(path: Path, folder: Path) -> Iterator[None]:
    """A system that says that this file is mounted by itself."""
    (folder / "mountinfo").write_text(f"42 22 254:0 /var/lib/x.db {path} rw,relatime - ext4 /dev/root rw\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(intake, "MOUNTS", folder / "mountinfo")
        intake._is_mounted.cache_clear()
        yield
    intake._is_mounted.cache_clear()


def test_a_file_that_is_mounted(shop: Shop) -> None:
    """P15: a file that was mounted by itself, into a container for one, is refused; nothing is sent."""
    with listed(shop.path, shop.folder):
        for database in (postgres.shown(shop.url), shop.engine()):
            with pytest.raises(ConfigurationError, match=MOUNTED):
                shop.charge(database)
    assert (shop.posts, shop.states()) == (0, [])


def test_a_system_without_a_list_of_mounts(tmp_path: Path) -> None:
    """Where there is no /proc nothing is known of mounts, and a store works."""
    with pytest.MonkeyPatch.context() as patch, Shop(SQLITE, "sync", tmp_path) as shop:
        patch.setattr(intake, "MOUNTS", tmp_path / "none")
        intake._is_mounted.cache_clear()
        assert shop.charge(postgres.shown(shop.url)) is State.SUCCEEDED
    intake._is_mounted.cache_clear()


BIND = 'touch "$1" && mount --bind "$0" "$1" && shift && exec "$@"'


def may_mount() -> bool:
    """Whether this machine lets us mount in a namespace of our own."""
    tried = ["unshare", "-m", "sh", "-c", "mount -t tmpfs none /mnt"]
    return bool(shutil.which("unshare")) and subprocess.run(tried, capture_output=True, check=False).returncode == 0


@ON_A_FILE
def test_a_real_mount(shell: World) -> None:
    """P15: `paycli` on a file that is bind-mounted alone is exit 2 and sends nothing (or on one that is said to be)."""
    assert shell.paycli("init").code == 0
    there = shell.folder / "container" / "paycli.db"
    there.parent.mkdir()
    if may_mount():
        shell.env["PAYCLI_DATABASE_URL"] = f"sqlite:///{there}"
        command, env = shell.command("charge", "order_1", *CARD)
        bound = ["unshare", "-m", "sh", "-c", BIND, str(shell.path), str(there), *command]
        done = subprocess.run(bound, env=env, capture_output=True, text=True, timeout=SECONDS_MAX, check=False)
        code, err = done.returncode, done.stderr
    else:
        with listed(shell.path, shell.folder):
            run = shell.paycli("charge", "order_1", *CARD)
        code, err = run.code, run.err
    assert (code, "is mounted by itself" in err) == (2, True)
    assert [request.method for request in shell.sandbox.requests if request.method == "POST"] == []


def test_a_folder_that_is_mounted(tmp_path: Path) -> None:
    """A folder that is mounted keeps file and log together: a store in it works."""
    with Shop(SQLITE, "sync", tmp_path) as shop, listed(shop.folder, tmp_path):
        assert shop.charge(postgres.shown(shop.url)) is State.SUCCEEDED


def test_clients_are_still_cheap(tmp_path: Path) -> None:
    """The list of mounts is read once a process and file, not at each transaction."""
    with Shop(SQLITE, "sync", tmp_path) as shop:
        shop.charge(postgres.shown(shop.url))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(intake, "MOUNTS", None)  # reading it would fail
            with Client(Stripe("sk_test_1"), database=postgres.shown(shop.url)) as client:
                assert client.find(ORDER.intent_id) is not None
