"""Leftovers on a kept-alive connection of the sandbox's port: an answer that is written twice, at once or later."""

import socket
from collections.abc import Iterator

import pytest

from gateway_client.sandbox import Sandbox
from gateway_client.sandbox.server import SandboxServer
from tests.sandbox_kit import create, in_process

BODY = b"amount=5&currency=usd"


@pytest.fixture
def sandbox() -> Sandbox:
    return Sandbox()


@pytest.fixture
def server(sandbox: Sandbox) -> Iterator[SandboxServer]:
    with sandbox.serve() as server:
        yield server


class Connection:
    """A kept-alive connection, read as it comes."""

    def __init__(self, server: SandboxServer, api_key: str) -> None:
        self._api_key = api_key
        self._socket = socket.create_connection(("127.0.0.1", server.port), timeout=5)
        self._reader = self._socket.makefile("rb")

    def send(self, key: str) -> None:
        head = f"POST /v1/payment_intents HTTP/1.1\r\nAuthorization: Bearer {self._api_key}\r\nIdempotency-Key: {key}"
        self._socket.sendall(f"{head}\r\nContent-Length: {len(BODY)}\r\n\r\n".encode() + BODY)

    def one_read(self) -> bytes:
        """What is there, in one piece of at most 64 KB."""
        return self._socket.recv(65536)

    def answer(self) -> tuple[int, str]:
        """The next answer on the connection: its status, and the key that it echoes."""
        status = int(self._reader.readline().split()[1])
        headers = dict(iter(lambda: self._reader.readline().decode().strip().partition(": ")[::2], ("", "")))
        self._reader.read(int(headers["Content-Length"]))
        return status, headers["Idempotency-Key"]

    def close(self) -> None:
        self._reader.close()
        self._socket.close()


@pytest.fixture
def connection(server: SandboxServer, sandbox: Sandbox) -> Iterator[Connection]:
    connection = Connection(server, sandbox.api_key)
    yield connection
    connection.close()


def test_a_leftover_comes_in_one_segment(sandbox: Sandbox, connection: Connection) -> None:
    """The answer is there twice in one read; the request was executed once."""
    sandbox.fault("leftover")
    connection.send("key_1")
    segment = connection.one_read()
    half = len(segment) // 2
    assert segment[:half] == segment[half:]
    assert segment.count(b"Idempotency-Key: key_1") == 2
    assert len(sandbox.payment_intents) == 1


@pytest.mark.parametrize("fault", ["leftover", "leftover_late"])
def test_the_next_answer_is_the_one_before(sandbox: Sandbox, connection: Connection, fault: str) -> None:
    """The next request on the connection is executed, and finds the earlier request's answer before its own."""
    sandbox.fault(f"rejected_400+{fault}")
    connection.send("key_1")
    assert connection.answer() == (400, "key_1")
    connection.send("key_2")
    assert [connection.answer(), connection.answer()] == [(400, "key_1"), (200, "key_2")]
    assert len(sandbox.payment_intents) == 1


def test_a_page_may_be_left_over(sandbox: Sandbox, connection: Connection) -> None:
    """What is written twice is what arrives, a box's page too."""
    sandbox.fault("page_404+leftover")
    connection.send("key_1")
    assert connection.one_read().count(b"HTTP/1.1 404 Not Found") == 2


def test_a_late_leftover_waits(server: SandboxServer, sandbox: Sandbox, connection: Connection) -> None:
    """The second writing comes after `leftover_s`, and not at all once the port is closed."""
    sandbox.leftover_s = 60
    sandbox.fault("leftover_late")
    connection.send("key_1")
    assert connection.answer() == (200, "key_1")
    server.close()
    assert connection.one_read() == b""


@pytest.mark.parametrize("fault", ["leftover", "leftover_late"])
def test_in_process_there_is_no_connection(sandbox: Sandbox, fault: str) -> None:
    """In process the answer is given once."""
    sandbox.leftover_s = 60
    sandbox.fault(fault)
    with in_process(sandbox) as client:
        assert [create(client, key=f"key_{number}").headers["Idempotency-Key"] for number in (1, 2)] == [
            "key_1",
            "key_2",
        ]
