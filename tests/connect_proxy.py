"""What a CONNECT proxy does with a connection, well or badly: scripts for a `Peer`. Standard library."""

from __future__ import annotations

import select
import socket

from tests.oracle_peer import PEER_S_MAX, Connection, Script

OPEN = b"HTTP/1.1 200 Connection established\r\n\r\n"


def target_of(head: bytes) -> tuple[str, int]:
    """Return the host and port that a CONNECT asks for."""
    method, authority, _ = head.split(b" ", 2)
    assert method == b"CONNECT"
    host, _, port = authority.decode().rpartition(":")
    return host.strip("[]"), int(port)


def tunnel(opened: bytes = OPEN, *, bytes_max: int | None = None, to: tuple[str, int] | None = None) -> Script:
    """Open the tunnel to what was asked for, or to another address; cut it after so many bytes from there."""

    def script(connection: Connection) -> None:
        head = connection.read_request()
        if not head:
            return
        with socket.create_connection(to or target_of(head), timeout=PEER_S_MAX) as far:
            connection.send(opened)
            relay(connection.raw, far, bytes_max)

    return script


def relay(near: socket.socket, far: socket.socket, bytes_max: int | None = None) -> None:
    """Pass on what both sides say, until one of them ends."""
    passed = 0
    while True:
        ready: list[socket.socket] = select.select([near, far], [], [], PEER_S_MAX)[0]
        if not ready:
            return
        for one in ready:
            piece = one.recv(65536)
            if not piece:
                return
            if one is far and bytes_max is not None:
                piece = piece[: bytes_max - passed]
                passed += len(piece)
            (far if one is near else near).sendall(piece)
            if passed == bytes_max:
                return


def says(said: bytes, *, then_waits: bool = False) -> Script:
    """Read the CONNECT, say this, and close or go on waiting."""

    def script(connection: Connection) -> None:
        connection.read_request()
        connection.send(said)
        if then_waits:
            connection.wait()

    return script
