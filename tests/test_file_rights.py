"""Files that others may read or write: a store and a key are their owner's alone, or nothing is sent."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway_client import ConfigurationError, Stripe
from tests.cli_world import API_KEY, CARD, World
from tests.doctor_kit import doctor_shell

OTHER_USER = 65_534


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[World]:
    with doctor_shell(tmp_path) as made:
        yield made


def store_of(shell: World) -> Path:
    return Path(shell.env["PAYCLI_DATABASE_URL"].removeprefix("sqlite:///"))


def test_nothing_is_created_through_a_link(shell: World) -> None:
    """E8: a symbolic link to nothing in the store's place is refused, and what it names is not made."""
    path = store_of(shell)
    target = path.with_name("target.db")
    path.symlink_to(target)
    run = shell.paycli("init")
    assert (run.code, run.out, target.exists()) == (2, "", False)
    assert f"{path} is a symbolic link to a file that is not there" in run.err


def test_a_link_to_a_store_is_taken(shell: World) -> None:
    """A symbolic link to a store that is there is what it names, and that is made with mode 0600."""
    path = store_of(shell)
    target = path.with_name("target.db")
    assert shell.paycli("init", PAYCLI_DATABASE_URL=f"sqlite:///{target}").code == 0
    path.symlink_to(target)
    assert shell.charge("order_1").code == 0
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


def others_may_write(path: Path) -> None:
    path.chmod(0o602)


def group_may_write(path: Path) -> None:
    path.chmod(0o660)


def belongs_to_another(path: Path) -> None:
    os.chown(path, OTHER_USER, -1)


def log_is_open(path: Path) -> None:
    log = path.with_name(f"{path.name}-wal")
    log.touch()
    log.chmod(0o666)


def log_is_a_link(path: Path) -> None:
    path.with_name(f"{path.name}-wal").symlink_to(path.with_name("elsewhere"))


def index_of_the_log_is_open(path: Path) -> None:
    index = path.with_name(f"{path.name}-shm")
    index.touch()
    index.chmod(0o666)


BREAKS = {
    index_of_the_log_is_open: "-shm has mode 0666, so others",
    others_may_write: "has mode 0602, so others",
    group_may_write: "has mode 0660, so others",
    log_is_open: "has mode 0666, so others",
    log_is_a_link: "so others",
}
if os.geteuid() == 0:  # who else could give a file away
    BREAKS[belongs_to_another] = f"belongs to user {OTHER_USER}"


@pytest.mark.parametrize(("broken", "said"), BREAKS.items())
def test_a_store_that_others_may_write_is_refused(shell: World, broken: Callable[[Path], None], said: str) -> None:
    """E8: a store, or its log, that another user may write or owns is exit 2 with the remedy; nothing is sent."""
    path = store_of(shell)
    assert shell.paycli("init").code == 0
    before = len(shell.sandbox.charges)
    broken(path)
    run = shell.paycli("charge", "order_1", *CARD)
    assert (run.code, run.out, len(shell.sandbox.charges)) == (2, "", before)
    assert said in run.err
    assert not path.with_name("elsewhere").exists()


def regular(path: Path) -> None:
    path.write_text(API_KEY)
    path.chmod(0o600)


def readable(path: Path) -> None:
    path.write_text(API_KEY)
    path.chmod(0o644)


def group_writable(path: Path) -> None:
    path.write_text(API_KEY)
    path.chmod(0o660)


def fifo(path: Path) -> None:
    os.mkfifo(path, 0o600)


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def large(path: Path) -> None:
    path.write_text(API_KEY + "\n" * 5000)
    path.chmod(0o600)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (readable, "has mode 0644, so others on this machine can read or change it: `chmod 600` it"),
        (group_writable, "has mode 0660"),
        (fifo, "must be a regular file"),
        (endless, "must be a regular file"),
        (large, "has 5032 bytes, a key has at most 4096"),
    ],
)
def test_a_key_file_that_is_no_secret_is_refused(tmp_path: Path, made: Callable[[Path], None], said: str) -> None:
    """E8: a key file must be a small regular file that others cannot read; nobody waits for a FIFO, no key is told."""
    path = tmp_path / "key"
    made(path)
    with pytest.raises(ConfigurationError) as caught:
        Stripe.from_env({"STRIPE_API_KEY_FILE": str(path)})
    assert said in str(caught.value)
    assert API_KEY not in str(caught.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize(("owner", "taken"), [(0, True), (OTHER_USER, False)])
def test_whose_a_key_file_is(tmp_path: Path, owner: int, taken: bool) -> None:
    """E8: a key file is this user's or root's; another user could put another account's key into it."""
    path = tmp_path / "key"
    regular(path)
    os.chown(path, owner, -1)
    if taken:
        assert Stripe.from_env({"STRIPE_API_KEY_FILE": str(path)}).mode == "test"
        return
    with pytest.raises(ConfigurationError, match=f"belongs to user {OTHER_USER}"):
        Stripe.from_env({"STRIPE_API_KEY_FILE": str(path)})


@pytest.mark.parametrize("link", [False, True])
def test_a_key_file_of_its_owner_is_taken(tmp_path: Path, link: bool) -> None:
    """A file of mode 0600 is taken, by a link, too, as secrets are mounted."""
    path = tmp_path / "key"
    regular(path)
    if link:
        path = tmp_path / "link"
        path.symlink_to(tmp_path / "key")
    assert Stripe.from_env({"STRIPE_API_KEY_FILE": str(path)}).mode == "test"
