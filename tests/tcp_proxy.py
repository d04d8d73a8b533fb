"""A network that fails on demand: a TCP proxy in threads, so that it serves tests on any loop and without one."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

_HOST = "127.0.0.1"


class TcpProxy:
    """Stands in front of one server, on a port of its own.

    `replace` swaps bytes in what the server says: some tell their clients where else to connect.
    """

    def __init__(self, host: str, port: int, replace: Mapping[bytes, bytes] | None = None) -> None:
        self._server = (host, port)
        self.replace = dict(replace or {})
        self._flowing = threading.Event()
        self._flowing.set()
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._listener: socket.socket | None = None
        self.port = 0
        self.accept()

    def accept(self) -> None:
        """Let clients connect (again), on the same port as before."""
        if self._listener is None:
            self._listener = socket.create_server((_HOST, self.port))
            self.port = self._listener.getsockname()[1]
            threading.Thread(target=self._serve, args=[self._listener], daemon=True).start()

    def refuse(self) -> None:
        """Let no new client connect. Those that are connected stay."""
        listener, self._listener = self._listener, None
        if listener is not None:
            _end(listener)

    def cut(self) -> None:
        """End all connections."""
        with self._lock:
            sockets, self._sockets = self._sockets, set()
        for end in sockets:
            _end(end)

    def down(self) -> None:
        """Be like a server that died."""
        self.refuse()
        self.cut()

    def stall(self) -> None:
        """Keep connections, and let nothing through: neither side is told."""
        self._flowing.clear()

    def flow(self) -> None:
        """Let through what was stalled."""
        self._flowing.set()

    def close(self) -> None:
        """End all, for good."""
        self.down()
        self.flow()

    def _serve(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                self._connect(client)

    def _connect(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(self._server)
        except OSError:
            _end(client)
            return
        with self._lock:
            self._sockets |= {client, server}
        for source, target, swaps in ((client, server, {}), (server, client, self.replace)):
            threading.Thread(target=self._pump, args=[source, target, swaps], daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, swaps: Mapping[bytes, bytes]) -> None:
        with suppress(OSError):
            while said := source.recv(65536):
                self._flowing.wait()
                for old, new in swaps.items():
                    said = said.replace(old, new)
                target.sendall(said)
        for end in (source, target):
            _end(end)
        with self._lock:
            self._sockets -= {source, target}


@contextmanager
def tcp_proxy(host: str, port: int, replace: Mapping[bytes, bytes] | None = None) -> Iterator[TcpProxy]:
    """Give a proxy in front of a server, for the time of a test."""
    proxy = TcpProxy(host, port, replace)
    try:
        yield proxy
    finally:
        proxy.close()


def _end(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)  # wakes who waits in recv or accept, which close alone does not
    end.close()
