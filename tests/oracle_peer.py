"""A peer on loopback that misbehaves on purpose: each test scripts what it does with a connection. Standard library.

It keeps every byte that arrived, so that "nothing was sent" and "nothing was sent twice" can be seen.
"""

import select
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

CERTIFICATE = Path(__file__).parent / "data" / "loopback.pem"
PEER_S_MAX = 5.0  # no script waits longer for a client

Script = Callable[["Connection"], None]


class Connection:
    """One accepted connection, as its script sees it."""

    def __init__(self, peer: "Peer", raw: socket.socket) -> None:
        self.peer, self.raw = peer, raw
        self.received = bytearray()

    def read_request(self) -> bytes:
        """One whole request with its body; b"" when the client has closed."""
        start = len(self.received)
        while b"\r\n\r\n" not in self.received[start:]:
            if not self._read():
                return b""
        head, _, _ = bytes(self.received[start:]).partition(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        length = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), 0)
        while len(self.received) < start + len(head) + 4 + length:
            if not self._read():
                return b""
        self.peer.requests.append(bytes(self.received[start:]))
        return self.peer.requests[-1]

    def _read(self) -> bool:
        chunk = self.raw.recv(65536)
        self.received += chunk
        return bool(chunk)

    def send(self, data: bytes) -> None:
        self.raw.sendall(data)

    def drip(self, data: bytes, pause_s: float = 0.05) -> None:
        """A byte now and then, until the client has had enough."""
        for position in range(len(data)):
            if self.peer.closing.wait(pause_s):
                return
            self.send(data[position : position + 1])

    def wait_for_end(self) -> bool:
        """Whether the client closes its end, within the time that a script waits for a client."""
        with suppress(TimeoutError):
            try:
                while self._read():
                    pass
            except ConnectionError:
                pass
            return True
        return False

    def wait(self) -> None:
        """Say nothing until the test is over."""
        self.peer.closing.wait(PEER_S_MAX)

    def reset(self) -> None:
        """RST instead of the polite FIN."""
        self.raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.raw.close()


def answer(body: bytes = b"{}", *headers: bytes, status: bytes = b"200 OK") -> bytes:
    """A whole HTTP answer."""
    lines = [b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), *headers, b"", b""]
    return b"\r\n".join(lines) + body


def serve(*answers: bytes) -> Script:
    """One answer for each request of a connection, then close."""

    def script(connection: Connection) -> None:
        for one in answers:
            if not connection.read_request():
                return
            connection.send(one)

    return script


class Peer:
    """A listening socket and a thread for each connection, until the `with` ends."""

    def __init__(self, script: Script, *, tls: bool = False, alpn: tuple[str, ...] = ()) -> None:
        self._script = script
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if tls else None
        if self._context is not None:
            self._context.load_cert_chain(CERTIFICATE)
            self._context.set_alpn_protocols(alpn)
        self.closing = threading.Event()
        self.requests: list[bytes] = []
        self.connections: list[Connection] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self._threads = [threading.Thread(target=self._accept)]

    @property
    def received(self) -> bytes:
        """Every byte of every connection: what a script has read, without the TLS around it."""
        return b"".join(bytes(connection.received) for connection in self.connections)

    def _accept(self) -> None:
        while True:
            try:
                raw, _ = self._listener.accept()
            except OSError:
                return
            raw.settimeout(PEER_S_MAX)
            connection = Connection(self, raw)
            self.connections.append(connection)
            thread = threading.Thread(target=self._run, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _run(self, connection: Connection) -> None:
        with suppress(OSError):  # the client left: that is what these tests are about
            if self._context is not None:
                connection.raw = self._context.wrap_socket(connection.raw, server_side=True)
            self._script(connection)
        connection.raw.close()

    def __enter__(self) -> "Peer":
        self._threads[0].start()
        return self

    def __exit__(self, *exception: object) -> None:
        while select.select([self._listener], [], [], 0)[0]:
            self.closing.wait(0.002)  # who has connected is accepted, so that what was sent is seen
        self.closing.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes `accept`
        self._listener.close()
        for connection in self.connections:
            with suppress(OSError):
                connection.raw.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PEER_S_MAX)


@contextmanager
def full_house(host: str = "127.0.0.1", port: int = 0) -> Iterator[tuple[str, int]]:
    """A listener whose queue is full: connecting to it hangs."""
    with socket.create_server((host, port), backlog=0) as listener:
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
        try:
            yield listener.getsockname()
        finally:
            for one in waiting:
                one.close()
