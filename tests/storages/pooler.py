"""A pooler: it lends sessions with PostgreSQL to its clients, for a transaction each, or for as long as they stay."""

from __future__ import annotations

import queue
import select
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TypeAlias

_PARAMETERS = 0x30000  # version 3.0 of the protocol
_NO_BACKEND = b"K" + struct.pack("!iii", 12, 1, 1)  # who asks for it hears of no process of the server's
_READY, _IDLE = b"Z", b"I"
_QUERY, _SYNC, _TERMINATE = b"Q", b"S", b"X"


class _Session:
    """A connection to the server, that one client at a time uses, and what the server said when it began."""

    def __init__(self, server: socket.socket, startup: bytes) -> None:
        self._server = server
        server.sendall(startup)
        self.greeting = b"".join(message for message in self._until_ready() if message[:1] != b"K")

    def carry(self, client: socket.socket) -> bool:
        """Carry messages to the server and back, until a transaction has ended. False: one of both is gone."""
        open_turns = 0
        while True:
            if client in select.select([client, self._server], [], [])[0]:
                message = _read_message(client)
                if message[:1] in (b"", _TERMINATE):
                    return self._roll_back()
                open_turns += message[:1] in (_QUERY, _SYNC)
                self._server.sendall(message)
                continue
            answer = _read_message(self._server)
            client.sendall(answer)
            open_turns -= answer[:1] == _READY
            if not answer or (open_turns == 0 and answer[:1] == _READY and answer[5:] == _IDLE):
                return bool(answer)

    def _roll_back(self) -> bool:
        self._server.sendall(_QUERY + struct.pack("!i", 13) + b"ROLLBACK\0")
        list(self._until_ready())
        return False

    def _until_ready(self) -> Iterator[bytes]:
        while True:
            message = _read_message(self._server)
            yield message
            if message[:1] in (b"", _READY):
                return


_Pool: TypeAlias = "queue.SimpleQueue[_Session]"


class Pooler:
    """Listens on a `port` of this machine. All clients share so many `sessions`; if none, each has one of its own."""

    def __init__(self, server: tuple[str, int] | str, *, sessions: int) -> None:
        self._server = server
        self._size = sessions
        self._shared: _Pool = queue.SimpleQueue()
        self._greeting = b""
        self._filling = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Let clients in. Closes all that was opened."""
        threading.Thread(target=self._accept, daemon=True).start()
        try:
            yield
        finally:
            for each in (self._listener, *self._sockets):
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
                each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._sockets.append(client)
                threading.Thread(target=self._serve, args=[client], daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError, ValueError), client:  # closed meanwhile
            pool, greeting = self._pool(_read_startup(client))
            client.sendall(greeting[: -len(_ready())] + _NO_BACKEND + _ready())
            goes_on = True
            while goes_on:
                select.select([client], [], [])
                session = pool.get()  # the one that has been idle for longest
                goes_on = session.carry(client)
                pool.put(session)

    def _pool(self, startup: bytes) -> tuple[_Pool, bytes]:
        with self._filling:
            pool: _Pool = self._shared if self._size else queue.SimpleQueue()
            if not self._size or not self._greeting:
                for _ in range(self._size or 1):
                    session = _Session(self._connect(), startup)
                    pool.put(session)
                    self._greeting = session.greeting
            return pool, self._greeting

    def _connect(self) -> socket.socket:
        if isinstance(self._server, str):
            server = socket.socket(socket.AF_UNIX)
            server.connect(self._server)
        else:
            server = socket.create_connection(self._server)
        self._sockets.append(server)
        return server


def _ready() -> bytes:
    return _READY + struct.pack("!i", 5) + _IDLE


def _read_startup(client: socket.socket) -> bytes:
    while True:
        size = _read(client, 4)
        rest = _read(client, struct.unpack("!i", size)[0] - 4)
        if struct.unpack("!i", rest[:4])[0] == _PARAMETERS:
            return size + rest
        client.sendall(b"N")  # no encryption here


def _read_message(end: socket.socket) -> bytes:
    head = _read(end, 5)
    return head + _read(end, struct.unpack("!i", head[1:])[0] - 4) if head else b""


def _read(end: socket.socket, size: int) -> bytes:
    """So many bytes; none if the other side has left."""
    said = b""
    while len(said) < size:
        more = end.recv(size - len(said))
        if not more:
            return b""
        said += more
    return said
