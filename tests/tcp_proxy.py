"""A network that fails on demand: a TCP proxy in threads, so that it serves tests on any loop and without one."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

from attrs import define


@define(eq=False)
class Link:
    """One connection of a client, and the server's end of it."""

    client: socket.socket
    server: socket.socket
    is_forgotten: bool = False
    ends_at_answer: bool = False

    def forget(self) -> None:
        """Stay open, and pass nothing on ever again, not even that an end was closed."""
        self.is_forgotten = True

    def await_answer(self) -> None:
        """End when the server next says something, which the client does not hear."""
        self.ends_at_answer = True

    def cut(self) -> None:
        """Close both ends."""
        for end in (self.client, self.server):
            _close(end)


class TcpProxy:
    """Listens on `port` of this machine, and passes everything on to a server, until a test says otherwise.

    `server` is a host and a port, or the path of a Unix socket. `replace` swaps bytes in what the server says: some
    tell their clients where else to connect. In a `with` block; leaving it closes all connections.
    """

    def __init__(self, server: tuple[str, int] | str) -> None:
        self._server = server
        self.port = 0
        self.replace: dict[bytes, bytes] = {}
        self._flowing = threading.Event()
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._links: list[Link] = []
        self._trap: tuple[re.Pattern[bytes], Callable[[Link], object]] | None = None

    def __enter__(self) -> Self:
        self.come_back()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.down()
        self._flowing.set()

    def cut(self) -> None:
        """Close all connections; new ones work."""
        with self._lock:
            for link in self._links:
                link.cut()
            self._links.clear()

    def forget(self) -> None:
        """Have all connections stay open, and neither side hear anything ever again; new ones work."""
        with self._lock:
            for link in self._links:
                link.forget()

    def down(self) -> None:
        """Be like a server that died: close all connections, and accept none until `come_back`."""
        with self._lock:
            listener, self._listener = self._listener, None
        if listener is not None:
            _close(listener)
        self.cut()

    def stall(self) -> None:
        """Keep connections, accept new ones, and hold back what both sides say until `come_back`."""
        self._flowing.clear()

    def come_back(self) -> None:
        """Accept connections on the same port as before, and let through what was held back."""
        self._flowing.set()
        if self._listener is None:
            self._listener = socket.create_server(("127.0.0.1", self.port))
            self.port = self._listener.getsockname()[1]
            threading.Thread(target=self._accept, args=[self._listener], daemon=True).start()

    def cut_at(self, request: re.Pattern[bytes]) -> None:
        """Cut the connection by which a client next sends such a `request`, which the server does not see."""
        self._trap = (request, Link.cut)

    def forget_at(self, request: re.Pattern[bytes]) -> None:
        """Forget the connection by which a client next sends such a `request`, which the server does not see."""
        self._trap = (request, Link.forget)

    def lose_answer_to(self, request: re.Pattern[bytes]) -> None:
        """Pass on the next such `request`; when the server answers, cut the connection instead."""
        self._trap = (request, Link.await_answer)

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):  # the listener is closed
            while True:
                client, _ = listener.accept()
                try:
                    self._begin(Link(client, self._connect()), listener)
                except OSError:
                    client.close()

    def _connect(self) -> socket.socket:
        if not isinstance(self._server, str):
            return socket.create_connection(self._server)
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(self._server)
        return connection

    def _begin(self, link: Link, listener: socket.socket) -> None:
        with self._lock:
            if listener is not self._listener:  # the server died in between
                link.cut()
                return
            self._links.append(link)
        for way in (
            (link.client, link.server, self._heard_from_client),
            (link.server, link.client, self._heard_from_server),
        ):
            threading.Thread(target=self._pump, args=[link, *way], daemon=True).start()

    def _pump(
        self, link: Link, source: socket.socket, target: socket.socket, heard: Callable[[Link, bytes], bytes]
    ) -> None:
        with suppress(OSError):  # the link is cut
            while said := source.recv(65536):
                self._flowing.wait()
                passed_on = heard(link, said)
                if not link.is_forgotten:
                    target.sendall(passed_on)
        self._flowing.wait()
        if not link.is_forgotten:
            link.cut()

    def _heard_from_client(self, link: Link, request: bytes) -> bytes:
        trap = self._trap
        if trap is not None and trap[0].search(request):
            self._trap = None
            trap[1](link)
        return request

    def _heard_from_server(self, link: Link, answer: bytes) -> bytes:
        if link.ends_at_answer:
            link.cut()
        for old, new in self.replace.items():
            answer = answer.replace(old, new)
        return answer


def _close(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)  # wakes who waits in recv or accept, which close alone does not
    end.close()
