"""The runner: one function of a connection, run as one transaction, in one hop to a worker thread."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any, TypeVar

import sqlalchemy as sa

from anysaga._crossing_threads import LoopLimiter, in_thread
from anysaga._errors import AnysagaError, StorageClosed, StorageRefused, StorageUnavailable
from anysaga.storages._forks import ForkLock
from anysaga.storages.sql._database import Database
from anysaga.storages.sql._watch import Turn, watch

_T = TypeVar("_T")

_WARM = 5.0
"""Seconds for which a connection that was good is believed to be so still."""


class Runner:
    """One lasting connection, used by one thread at a time; made when first needed, and anew after it broke.

    The hop is taken with one token for each loop, so that tasks wait for their turn in the loop, not in threads.
    A transaction that takes more than `limit` seconds has its connection broken, and fails; a file needs no such limit.
    """

    def __init__(self, database: Database, *, writes: bool, limit: float = math.inf) -> None:
        self._database = database
        self._host = database.host
        self._writes = writes
        self._turn = ForkLock()
        self._limiter = LoopLimiter(1)
        self._limit = limit
        self._connection: sa.Connection | None = None
        self._driver: Any = None
        self._good_at = -math.inf
        self._closed = False

    async def hop(self, func: Callable[[], _T]) -> _T:
        """Run `func`, which uses this runner, in a worker thread. Never abandoned, whatever happens to the caller."""
        return await in_thread(func, limiter=self._limiter.get())

    @property
    def is_warm(self) -> bool:
        """Whether the connection was good a moment ago. One that was idle for long may be dead, and say nothing."""
        return self._connection is not None and monotonic() - self._good_at < _WARM

    def run(self, operation: Callable[[sa.Connection], _T], *, limit: float | None = None, single: bool = False) -> _T:
        """Run `operation` as one transaction in this thread: committed when it returns, undone when it raises.

        `single`: it executes one statement. Then nothing is begun anew, since nobody knows whether it took effect.
        Raises what it raises, with the driver's errors turned into `StorageError`; `StorageClosed` after `close`.
        """
        with self._turn.lock:
            if self._closed:
                raise StorageClosed(self._database.address)
            with watch.over(limit or self._limit, self._cut) as turn:
                try:
                    return self._host.call(partial(self._transact, operation, single=single))
                except Exception as error:
                    explained = self._explain(error, turn)
                    if explained is None:
                        raise
                    raise explained from error

    def close(self) -> None:
        """Close the connection, waiting for the transaction that is under way. Safe to call twice."""
        with self._turn.lock:
            self._closed = True
            self._let_go()

    def abandon(self) -> None:
        """Close the connection soon: for a finalizer, when nobody uses this runner any more."""
        self._closed = True
        self._host.post(self._drop)

    def pause(self) -> None:
        """Let go of the connection, and let nobody open another, until `resume`.

        For the moment of a fork: SQLite's locks and memory do not survive in a child, not even to be closed there.
        """
        self._turn.pause()
        try:
            self._let_go()
        finally:
            self._connection = None  # not even if it could not be closed

    def resume(self) -> None:
        """Go on after `pause`."""
        self._turn.resume()

    def forget_parent(self) -> None:
        """Begin anew in a forked child, where the lock may be one that nobody releases."""
        self._turn.forget_parent()

    def _transact(self, operation: Callable[[sa.Connection], _T], *, single: bool = False) -> _T:
        kept = self._connection
        connection = self._connection = kept or self._connect()
        committing = single
        database = self._database
        try:
            with database.single(connection) if single else database.begin(connection, writes=self._writes):
                result = operation(connection)
                committing = True
        except BaseException as error:  # noqa: ASYNC103 - this is no coroutine
            if database.is_clean(connection):
                raise
            self._drop()
            if kept is None or committing or not self._is_the_servers(error):
                raise
        else:
            self._good_at = monotonic()
            return result
        # The connection had died since the last transaction, or leads to a server that is the primary no more. Nothing
        # of this one was committed, so it is begun anew.
        return self._transact(operation)

    def _connect(self) -> sa.Connection:
        return self._database.connect(writes=self._writes, made=partial(setattr, self, "_driver"))

    def _cut(self) -> None:
        if self._driver is not None:
            self._database.cut(self._driver)

    def _explain(self, error: Exception, turn: Turn) -> AnysagaError | None:
        explained = self._database.explain(error)
        if turn.is_over and isinstance(explained, StorageUnavailable):
            return StorageUnavailable(self._database.address, f"it did not answer within {turn.seconds:g} s")
        return explained

    def _is_the_servers(self, error: BaseException) -> bool:
        return isinstance(error, Exception) and isinstance(
            self._database.explain(error), StorageUnavailable | StorageRefused
        )

    def _let_go(self) -> None:
        if self._connection is not None:
            with watch.over(self._limit, self._cut):
                self._host.call(self._drop)

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._database.close(connection)
            self._driver = None
