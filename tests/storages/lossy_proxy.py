"""A proxy that loses single connections, and answers to single requests; `tcp_proxy` treats all of them alike."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

from attrs import define, field


@define(eq=False)
class Link:
    """One connection of a client, and the server's end of it."""

    client: socket.socket
    server: socket.socket
    silent: threading.Event = field(factory=threading.Event)
    deaf: threading.Event = field(factory=threading.Event)

    def cut(self) -> None:
        """Close both ends."""
        for end in (self.client, self.server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


class LossyProxy:
    """Listens on `port` of this machine, and passes everything on to a server, until a test says otherwise.

    `server` is a host and a port, or the path of a Unix socket. In a `with` block; leaving it closes all connections.
    """

    def __init__(self, server: tuple[str, int] | str) -> None:
        self._server = server
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._links: list[Link] = []
        self._is_down = self._refuses = False
        self._trap: tuple[re.Pattern[bytes], Callable[[Link], object]] | None = None

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # closing alone would not wake the thread that accepts
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """Close all connections; new ones work."""
        for link in self._links:
            link.cut()

    def stall(self) -> None:
        """Have all connections stay open, and neither side hear anything ever again; new ones work."""
        for link in self._links:
            link.silent.set()

    def go_down(self) -> None:
        """The same, and new connections are accepted, but hear nothing either, until `come_back`."""
        self._is_down = True
        self.stall()

    def refuse(self) -> None:
        """Close all connections, and each new one at once, until `come_back`."""
        self._refuses = True
        self.cut()

    def come_back(self) -> None:
        """Let new connections work again."""
        self._is_down = self._refuses = False

    def stall_at(self, request: re.Pattern[bytes]) -> None:
        """Stall the connection by which a client next sends such a `request`, which the server does not see."""
        self._set_trap(request, lambda link: link.silent.set())

    def cut_at(self, request: re.Pattern[bytes]) -> None:
        """Cut the connection by which a client next sends such a `request`, which the server does not see."""
        self._set_trap(request, lambda link: link.cut())

    def lose_answer_to(self, request: re.Pattern[bytes]) -> None:
        """Pass on the next such `request`; when the server answers, cut the connection instead."""
        self._set_trap(request, lambda link: link.deaf.set())

    def _set_trap(self, request: re.Pattern[bytes], spring: Callable[[Link], object]) -> None:
        self._trap = (request, spring)

    def _accept(self) -> None:
        with suppress(OSError):  # the listener is closed
            while True:
                client, _ = self._listener.accept()
                if self._refuses:
                    client.close()
                    continue
                try:
                    link = Link(client, self._connect())
                except OSError:
                    client.close()
                    continue
                if self._is_down:
                    link.silent.set()
                self._links.append(link)
                for pump in (self._pass_requests, self._pass_answers):
                    threading.Thread(target=pump, args=[link], daemon=True).start()

    def _connect(self) -> socket.socket:
        if not isinstance(self._server, str):
            return socket.create_connection(self._server)
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(self._server)
        return connection

    def _pass_requests(self, link: Link) -> None:
        with suppress(OSError):
            while request := link.client.recv(65536):
                trap = self._trap
                if trap is not None and trap[0].search(request):
                    self._trap = None
                    trap[1](link)
                if not link.silent.is_set():
                    link.server.sendall(request)
        if not link.silent.is_set():
            link.cut()

    def _pass_answers(self, link: Link) -> None:
        with suppress(OSError):
            while answer := link.server.recv(65536):
                if link.deaf.is_set():
                    break
                if not link.silent.is_set():
                    link.client.sendall(answer)
        if not link.silent.is_set():
            link.cut()
