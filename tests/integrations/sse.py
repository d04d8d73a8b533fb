"""Real servers of an application, and a client of their server-sent events."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Self
from urllib.parse import urlsplit

import anyio
import h11
import hypercorn.asyncio
import hypercorn.trio
import sniffio
import uvicorn
from fastapi import FastAPI
from hypercorn.config import Config

Event = tuple[str | None, dict[str, Any]]


@asynccontextmanager
async def served(app: FastAPI, server: str) -> AsyncIterator[str]:
    """Serve an application by `server` ("hypercorn", "uvicorn") on this very loop; gives its address."""
    listening = socket.create_server(("127.0.0.1", 0))  # clients may come before the server looks
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    stop = anyio.Event()
    serve = {"hypercorn": _hypercorn, "uvicorn": _uvicorn}[server]
    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(serve, app, listening, stop.wait)
            yield url
            stop.set()


async def _hypercorn(app: Any, listening: socket.socket, stop: Callable[[], Awaitable[Any]]) -> None:
    config = Config()
    config.bind = [f"fd://{listening.detach()}"]
    config.errorlog = None
    serve: Any = hypercorn.trio.serve if sniffio.current_async_library() == "trio" else hypercorn.asyncio.serve
    await serve(app, config, shutdown_trigger=stop)


async def _uvicorn(app: FastAPI, listening: socket.socket, stop: Callable[[], Awaitable[Any]]) -> None:
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
    async with anyio.create_task_group() as group:

        async def stopping() -> None:
            await stop()
            server.should_exit = True

        group.start_soon(stopping)
        await server.serve(sockets=[listening])


class EventSource:
    """Reads server-sent events one by one, as a browser does. Leaving it closes the connection."""

    def __init__(self, url: str, after: str | None = None) -> None:
        self._address = urlsplit(url)
        self._after = after
        self._connection = h11.Connection(h11.CLIENT)
        self._lines: list[str] = []
        self._rest = ""
        self.status = 0
        self.headers: dict[str, str] = {}

    async def __aenter__(self) -> Self:
        self._stream = await anyio.connect_tcp(self._address.hostname or "", self._address.port or 0)
        target = self._address.path + (f"?{self._address.query}" if self._address.query else "")
        headers = [("Host", self._address.netloc), *([("Last-Event-ID", self._after)] if self._after else [])]
        await self._send(h11.Request(method="GET", target=target, headers=headers))
        await self._send(h11.EndOfMessage())
        answer = await self._next_part()
        assert isinstance(answer, h11.Response)
        self.status = answer.status_code
        self.headers = {name.decode(): value.decode() for name, value in answer.headers}
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stream.aclose()

    async def next_line(self) -> str | None:
        """The next line; None at the end."""
        while not self._lines:
            part = await self._next_part()
            if not isinstance(part, h11.Data):
                return self._rest or None
            *self._lines, self._rest = (self._rest + bytes(part.data).decode()).split("\n")
        return self._lines.pop(0)

    async def next(self) -> Event | None:
        """The next event; None at the end."""
        number: str | None = None
        while (line := await self.next_line()) is not None:
            if line.startswith("id: "):
                number = line.removeprefix("id: ")
            elif line.startswith("data: "):
                return number, json.loads(line.removeprefix("data: "))
        return None

    async def rest(self) -> list[Event]:
        """All events that are still to come."""
        found = []
        while (event := await self.next()) is not None:
            found.append(event)
        return found

    async def _send(self, part: h11.Event) -> None:
        await self._stream.send(self._connection.send(part) or b"")

    async def _next_part(self) -> object:
        while (part := self._connection.next_event()) is h11.NEED_DATA:
            try:
                self._connection.receive_data(await self._stream.receive())
            except anyio.EndOfStream:
                self._connection.receive_data(b"")
        return part


async def all_events(url: str, after: str | None = None) -> list[Event]:
    """Everything that is told at an address, to somebody who has seen all up to `after`."""
    async with EventSource(url, after) as source:
        assert source.status == 200
        return await source.rest()


async def refusal(url: str, after: str | None = None) -> tuple[int, str]:
    """The status of an answer that tells no events, and what it says."""
    async with EventSource(url, after) as source:
        assert source.status != 200
        return source.status, await source.next_line() or ""


def words_of(events: list[Event]) -> list[str]:
    """Events in short: the step where there is one, else the kind of event."""
    return [str(event.get("step", event["type"])) for _, event in events]
