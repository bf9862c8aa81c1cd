"""The suite never leaves this machine: a connection to anything but loopback fails the test that tries it."""

import ipaddress
import socket
from collections.abc import Iterator
from typing import Any

import pytest

pytest.register_assert_rewrite("tests.nightly_cases")  # its asserts tell what differs, as those of the tests do


def _is_local(address: object) -> bool:
    """A Unix socket's path, or a host that is loopback."""
    if not isinstance(address, tuple):
        return True
    try:
        return address[0] == "localhost" or ipaddress.ip_address(address[0]).is_loopback
    except ValueError:
        return False  # a name: it would have to be looked up


@pytest.fixture(autouse=True, scope="session")
def no_internet() -> Iterator[None]:
    """Refuse every connection that is not loopback."""
    real = {name: getattr(socket.socket, name) for name in ("connect", "connect_ex")}

    def guarded(name: str) -> Any:
        def connect(self: socket.socket, address: Any) -> Any:
            if not _is_local(address):
                pytest.fail(f"a test tried to connect to {address}")
            return real[name](self, address)

        return connect

    with pytest.MonkeyPatch.context() as patch:
        for name in real:
            patch.setattr(socket.socket, name, guarded(name))
        yield
