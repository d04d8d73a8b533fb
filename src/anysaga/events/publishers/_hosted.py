"""Publishers over asyncio clients, for asyncio and Trio alike: the client lives in the library's own asyncio loop."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, Generic, TypeVar

from anysaga._client_loop import client_loop
from anysaga._crossing_threads import Waker
from anysaga._errors import PublishFailed
from anysaga.abc import Message, Publisher
from anysaga.events.publishers._parcels import (
    Address,
    Answers,
    Parcel,
    Said,
    checked_seconds,
    failure,
    no_answer,
    packed,
)

_T = TypeVar("_T")
_Client = TypeVar("_Client")

_A_MOMENT = 1.0
"""Seconds that a task has for its cancellation."""


async def hosted(work: Coroutine[Any, Any, _T]) -> _T:
    """Await `work` in the library's asyncio loop.

    A caller that is cancelled leaves at once, and `work` goes on: no cancellation comes in the middle of a client.
    """
    ended = Waker()
    future = client_loop.submit(work)
    future.add_done_callback(lambda _: ended.wake())
    await ended.wait()
    return future.result()


class HostedPublisher(Publisher, Generic[_Client]):
    """A publisher over an asyncio client that is connected when it is first needed, and again after it was lost.

    Subclasses say what is special to their client. All of that runs in the library's loop.
    """

    def __init__(self, broker: str, address: Address, timeout: float) -> None:
        self._broker = broker
        self._address = address
        self._timeout = checked_seconds(timeout)
        self._client: _Client | None = None
        self._connecting = asyncio.Lock()
        self._leaving: set[asyncio.Task[None]] = set()
        self._is_closed = False

    @abstractmethod
    async def _connect(self) -> _Client:
        """Make a client that is ready to send. Cancelled when it takes too long."""

    @abstractmethod
    async def _disconnect(self, client: _Client) -> None:
        """End a client, working or not. Nobody waits for it longer than the time limit."""

    @abstractmethod
    def _is_usable(self, client: _Client) -> bool:
        """Whether a client is worth another try."""

    @abstractmethod
    def _work(self, client: _Client, parcels: Sequence[Parcel], said: Said) -> Iterable[Coroutine[Any, Any, None]]:
        """What is to be done at once to send a batch. It notes what was said of each message, and raises nothing."""

    @abstractmethod
    def _is_silence(self, error: Exception) -> bool:
        """Whether an error says no more of a message than that the broker was not heard."""

    async def open(self) -> None:
        """Allow publishing. It connects when there is something to publish, so a broker that is down delays nobody."""
        self._is_closed = False

    async def publish(self, messages: Sequence[Message], /) -> Answers:
        """See `Publisher.publish`. Raises `PublishFailed` without a connection or any answer, and after `aclose`."""
        self._check_open()
        parcels, answers = packed(messages, self._address, self._broker)
        if parcels:
            for index, error in (await hosted(self._deliver(parcels))).items():
                answers[index] = error
        return answers

    async def aclose(self) -> None:
        """Disconnect. What is under way then fails. Safe to call twice."""
        self._is_closed = True
        if client_loop.is_started and not client_loop.is_stopped:
            await hosted(self._close())

    async def _deliver(self, parcels: Sequence[Parcel]) -> Said:
        """Send a batch within the time limit; the answers by the places of the messages."""
        deadline = now() + self._timeout
        return await self._sent(await self._connected(deadline), parcels, deadline)

    async def _connected(self, deadline: float) -> _Client:
        try:
            async with asyncio.timeout_at(deadline), self._connecting:
                self._check_open()
                if self._client is not None and not self._is_usable(self._client):
                    self._give_up(self._client)
                if self._client is None:
                    self._client = await self._connect()
                return self._client
        except PublishFailed:
            raise
        except Exception as error:
            raise failure(self._broker, None, error) from error

    async def _sent(self, client: _Client, parcels: Sequence[Parcel], deadline: float) -> Said:
        said: Said = {}
        tasks = [asyncio.create_task(work) for work in self._work(client, parcels, said)]
        _, late = await asyncio.wait(tasks, timeout=deadline - now())
        if late:  # a client that says nothing is not asked again
            self._give_up(client)
            for task in late:
                task.cancel()
            await asyncio.wait(late, timeout=_A_MOMENT)
        self._check_heard([*said.values()])
        return {parcel.index: self._answer(parcel, said) for parcel in parcels}

    def _answer(self, parcel: Parcel, said: Said) -> Exception | None:
        if parcel.index not in said:
            return PublishFailed(self._broker, parcel.message.id, no_answer(self._timeout))
        error = said[parcel.index]
        return error and failure(self._broker, parcel.message, error)

    def _check_heard(self, answers: Sequence[Exception | None]) -> None:
        """Raise if nobody said anything of any message: then the broker is away, and none of them is to blame."""
        silence = [answer for answer in answers if answer is not None and self._is_silence(answer)]
        if len(silence) < len(answers):
            return
        if not silence:
            raise PublishFailed(self._broker, "", no_answer(self._timeout))
        raise failure(self._broker, None, silence[0])

    def _give_up(self, client: _Client) -> None:
        if self._client is client:
            self._client = None
        self._leave(self._disconnect(client))

    def _leave(self, end: Coroutine[Any, Any, None]) -> None:
        """End a client in the background: one whose broker is silent may take long."""
        task = asyncio.create_task(end)
        self._leaving.add(task)
        task.add_done_callback(self._left)

    def _left(self, task: asyncio.Task[None]) -> None:
        self._leaving.discard(task)
        if not task.cancelled():
            task.exception()  # what it says of a client that was given up is no news

    async def _close(self) -> None:
        async with self._connecting:
            if self._client is not None:
                self._give_up(self._client)
        if self._leaving:
            await asyncio.wait(self._leaving, timeout=self._timeout)

    def _check_open(self) -> None:
        if self._is_closed or client_loop.is_stopped:
            raise PublishFailed(self._broker, "", "the publisher is closed")


def now() -> float:
    """The clock of the library's loop."""
    return asyncio.get_running_loop().time()
