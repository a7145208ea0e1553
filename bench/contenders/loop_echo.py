"""Echo on asyncio's loop or uvloop's, as a protocol or over streams, as a competent user writes it.

python -m bench.contenders.loop_echo asyncio|uvloop protocol|streams PORT SIZE
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any


def step(command: bytes, state: None) -> tuple[None, bytes]:
    """The same shape of work as on pybehave: one call for each message."""
    return state, command


class Echo(asyncio.Protocol):
    """Whole messages out of whatever has arrived, all answers in one write."""

    size = 64

    def __init__(self) -> None:
        self.state: None = None
        self.rest = b""

    def connection_made(self, transport: Any) -> None:
        """Keep the transport."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer every whole message."""
        size = self.size
        if self.rest:
            data = self.rest + data
            self.rest = b""
        if len(data) == size:
            self.state, output = step(data, self.state)
            self.transport.write(output)
            return
        outputs = []
        at = 0
        while at + size <= len(data):
            self.state, output = step(data[at : at + size], self.state)
            outputs.append(output)
            at += size
        self.rest = data[at:]
        self.transport.write(b"".join(outputs))


async def serve_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection over streams: the code of every tutorial."""
    state: None = None
    try:
        while True:
            state, output = step(await reader.readexactly(Echo.size), state)
            writer.write(output)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def main(kind: str, port: int) -> None:
    """Serve until killed."""
    loop = asyncio.get_running_loop()
    if kind == "protocol":
        server: Any = await loop.create_server(Echo, "127.0.0.1", port, backlog=1024)
    else:
        server = await asyncio.start_server(serve_stream, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    if sys.argv[1] == "uvloop":
        import uvloop

        uvloop.install()
    Echo.size = int(sys.argv[4])
    asyncio.run(main(sys.argv[2], int(sys.argv[3])))
