"""The outbox of a `MemoryStorage`: events on their way, by destination and saga."""

from __future__ import annotations

import bisect
import heapq
from collections.abc import Iterable, Iterator
from operator import attrgetter

from attrs import define, field

from anysaga._outbox import Delivery, Message, OutboxLag, Settlement
from anysaga._records import SagaState, StoredEvent, Write
from anysaga.storages._clock import microseconds
from anysaga.storages._watchers import Watchers

_Key = tuple[str, str, int]


@define(eq=False, repr=False)
class _Letter:
    """One event on its way to one destination."""

    message: Message
    destination: str
    position: int
    due_at: int
    held: bool
    dead: bool = False
    attempts: int = 0
    lease: int = 0
    error: str | None = None

    @property
    def key(self) -> _Key:
        return self.message.saga_id, self.destination, self.position

    def delivery(self) -> Delivery:
        return Delivery(self.message, self.destination, self.position, self.attempts, self.lease, self.error)


@define(eq=False, repr=False)
class Letters:
    """All that is on its way. Every method is called by whoever holds the shelf's lock.

    Letters of one saga to one destination lie in the order of their positions. The first of them, if it is to be sent,
    is in the heap of its destination, with the moment when it is due; what else lies there is passed over.
    """

    watchers: Watchers = field(factory=Watchers)
    _news: bool = False
    _rows: dict[str, dict[str, list[_Letter]]] = field(factory=dict[str, "dict[str, list[_Letter]]"])
    _due: dict[str, list[tuple[int, str]]] = field(factory=dict[str, "list[tuple[int, str]]"])

    def enter(self, write: Write, now: int) -> None:
        """Keep the events of a write; at the end of their saga let go those that were held, or drop them."""
        self._news = True
        for position, event in write.events:
            for destination in event.destinations:
                letter = _Letter(_message(event, write.saga_id, now), destination, position, now, event.held)
                letters = self._rows.setdefault(destination, {}).setdefault(write.saga_id, [])
                bisect.insort(letters, letter, key=attrgetter("position"))
                self._schedule([letter])
        if write.frees_held:
            self._end_waiting(write, now)

    def tell(self) -> None:
        """Tell the watchers, if there is something new. Called by whoever has let go of the lock."""
        if self._news:
            self._news = False
            self.watchers.tell()

    def lease(self, destination: str, limit: int, span: int, now: int) -> list[Delivery]:
        """Take the first letter of each saga that is due, the longest due first."""
        due, taken = self._due.get(destination, []), dict[str, _Letter]()
        while due and due[0][0] <= now and len(taken) < limit:
            moment, saga_id = heapq.heappop(due)
            head = _head(self._rows[destination].get(saga_id, ()))
            if head is not None and not head.dead and head.due_at == moment:
                taken[saga_id] = head
        for head in taken.values():
            head.due_at = now + span
            head.attempts += 1
            head.lease += 1
            self._schedule([head])
        return [letter.delivery() for letter in taken.values()]

    def settle(self, settlements: Iterable[Settlement], now: int) -> None:
        """Forget what is delivered, and say of the rest when it is due again, or that it is dead."""
        for each in settlements:
            letter = self._find(each.delivery)
            if letter is None or letter.lease != each.delivery.lease:
                continue
            if each.error is None:
                self._remove(letter)
                continue
            letter.error = each.error
            letter.attempts -= not each.counts
            letter.dead = each.wait is None
            letter.due_at = now + microseconds(each.wait or 0.0)
            self._schedule([letter])

    def dead(self, limit: int, after: Delivery | None) -> list[Delivery]:
        """List dead letters by saga and destination."""
        start = ("", "", -1) if after is None else _key_of(after)
        found = (letter for letter in self._all() if letter.dead and letter.key > start)
        return [letter.delivery() for letter in heapq.nsmallest(limit, found, key=lambda letter: letter.key)]

    def revive(self, delivery: Delivery, now: int) -> bool:
        """Have a dead letter sent again."""
        letter = self._find(delivery)
        if letter is None or not letter.dead:
            return False
        letter.dead, letter.attempts, letter.due_at = False, 0, now
        self._schedule([letter])
        return True

    def skip(self, delivery: Delivery) -> bool:
        """Give a dead letter up."""
        letter = self._find(delivery)
        if letter is None or not letter.dead:
            return False
        self._remove(letter)
        return True

    def has_any_of(self, saga_id: str) -> bool:
        """Whether events of a saga are on their way, or dead letters."""
        return any(saga_id in by_saga for by_saga in self._rows.values())

    def lag(self, now: int) -> OutboxLag:
        """Count what waits, and what is dead."""
        waiting = [letter for letter in self._all() if not letter.dead and not letter.held]
        dead = sum(letter.dead for letter in self._all())
        oldest = min((letter.message.at for letter in waiting), default=now)
        return OutboxLag(len(waiting), dead, max(now - oldest, 0) / 1_000_000)

    def _end_waiting(self, write: Write, now: int) -> None:
        for by_saga in list(self._rows.values()):
            for letter in [each for each in by_saga.get(write.saga_id, ()) if each.held]:
                if write.state is SagaState.COMPLETED:
                    letter.held, letter.due_at = False, now
                    self._schedule([letter])
                else:
                    self._remove(letter)

    def _all(self) -> Iterator[_Letter]:
        return (letter for by_saga in self._rows.values() for letters in by_saga.values() for letter in letters)

    def _find(self, delivery: Delivery) -> _Letter | None:
        letters = self._rows.get(delivery.destination, {}).get(delivery.message.saga_id, ())
        return next((letter for letter in letters if letter.position == delivery.position), None)

    def _remove(self, letter: _Letter) -> None:
        by_saga = self._rows[letter.destination]
        saga_id = letter.message.saga_id
        by_saga[saga_id].remove(letter)
        self._schedule(by_saga[saga_id])
        if not by_saga[saga_id]:
            del by_saga[saga_id]

    def _schedule(self, letters: Iterable[_Letter]) -> None:
        """Enter the first of a saga's letters, if there is one to be sent, where `lease` looks for it."""
        head = _head(letters)
        if head is not None and not head.dead:
            due = self._due.setdefault(head.destination, [])
            heapq.heappush(due, (head.due_at, head.message.saga_id))


def _head(letters: Iterable[_Letter]) -> _Letter | None:
    return next((letter for letter in letters if not letter.held), None)


def _message(event: StoredEvent, saga_id: str, at: int) -> Message:
    return Message(event.id, event.type, event.data, at, saga_id, event.saga, event.step)


def _key_of(delivery: Delivery) -> _Key:
    return delivery.message.saga_id, delivery.destination, delivery.position
