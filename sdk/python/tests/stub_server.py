"""A server made by hand, byte by byte: whatever a Tollgate would never say, it says."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

#: Gets the head of a request and writes the answer; the connection stays open afterwards.
Behaviour = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]

ADA: dict[str, Any] = {
    "session": {"id": "s1", "userId": "u1", "expiresAt": "2999-01-01T00:00:00.000Z"},
    "user": {
        "id": "u1",
        "email": "ada@example.test",
        "name": "Ada",
        "emailVerified": True,
        "role": "user",
    },
}


@dataclass
class Stub:
    url: str
    heads: list[bytes] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    connections: int = 0

    def header(self, name: str, index: int = -1) -> str | None:
        """A header of a request as it came; several lines of a name are a failure."""
        lines = self.heads[index].decode("latin-1").split("\r\n")[1:]
        found = [line.split(": ", 1)[1] for line in lines if line.lower().startswith(f"{name}: ")]
        assert len(found) <= 1, found
        return found[0] if found else None

    @property
    def targets(self) -> list[str]:
        return [" ".join(head.decode("latin-1").split(" ")[:2]) for head in self.heads]


def answer(
    body: bytes | str | Any,
    *,
    status: str = "200 OK",
    content_type: str | None = "application/json",
    headers: tuple[str, ...] = (),
    length: int | None = None,
) -> Behaviour:
    """A whole answer; what is neither bytes nor text is written as JSON."""
    text = body if isinstance(body, bytes | str) else json.dumps(body)
    content = text.encode() if isinstance(text, str) else text
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(content) if length is None else length}"]
    if content_type is not None:
        lines.append(f"Content-Type: {content_type}")
    whole = "\r\n".join([*lines, *headers, "", ""]).encode() + content

    async def say(_head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(whole)
        await writer.drain()

    return say


async def silent(_head: bytes, _writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def slow(head: bytes, writer: asyncio.StreamWriter) -> None:
    """Always about to go on: no single wait is long, the whole is."""
    writer.write(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 4000\r\n\r\n"
    )
    for _ in range(4000):
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.02)


async def reset(_head: bytes, writer: asyncio.StreamWriter) -> None:
    """Breaks off in the middle of a body."""
    writer.write(
        b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 400\r\n\r\n{"us'
    )
    await writer.drain()
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    writer.transport.abort()


async def hang_up(_head: bytes, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def endless(_head: bytes, writer: asyncio.StreamWriter) -> None:
    """A body that never ends, as fast as it is read."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
    while True:
        writer.write(b" " * 65_536)
        await writer.drain()


@asynccontextmanager
async def stub(behaviour: Behaviour, port: int = 0) -> AsyncIterator[Stub]:
    server_side = Stub(url="")
    tasks: set[asyncio.Task[None]] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                (
                    int(line.split(b":")[1])
                    for line in head.split(b"\r\n")
                    if line.lower().startswith(b"content-length:")
                ),
                0,
            )
            server_side.heads.append(head)
            server_side.bodies.append(await reader.readexactly(length))
            await behaviour(head, writer)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_side.connections += 1
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await talk(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            # The client hangs up, or the test is over.
            pass
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    port = server.sockets[0].getsockname()[1]
    server_side.url = f"http://127.0.0.1:{port}"
    try:
        yield server_side
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
