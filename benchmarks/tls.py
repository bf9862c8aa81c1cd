"""Put TLS before a provider, in a process of its own: `python -m benchmarks.tls PORT CERTIFICATE`.

It prints "port P", decrypts what comes there, and passes it on to PORT of loopback. Its own CPU is not measured.
"""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

from benchmarks.exchanges import TRUSTED
from benchmarks.processes import environment
from benchmarks.provider import CannotBuild, Provider

PIECE_BYTES = 65536


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while piece := await reader.read(PIECE_BYTES):
            writer.write(piece)
            await writer.drain()
    writer.close()


async def _serve(port: int, certificate: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(_pass_on(reader, far_writer), _pass_on(far_reader, writer))

    server = await asyncio.start_server(accepted, "127.0.0.1", 0, ssl=context, backlog=256)
    print(f"port {server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


@contextmanager
def encrypted(provider: Provider) -> Iterator[Provider]:
    """Run it before a provider until the block ends."""
    port = urlsplit(provider.url).port
    command = [sys.executable, "-m", "benchmarks.tls", str(port), str(TRUSTED)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment())
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.startswith("port "):
            raise CannotBuild(f"TLS before the provider did not start (exit status {process.wait(5)})")
        yield Provider(f"https://127.0.0.1:{int(line.split()[1])}")
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), sys.argv[2]))
