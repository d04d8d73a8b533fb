"""One call through a circuit breaker: how its circuit is asked, and told, in this process and in a store."""

from __future__ import annotations

import logging
import threading
import types
import uuid
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeAlias

from anyio import CancelScope
from attrs import define, field

from anysaga import _circuit
from anysaga._circuit import Admission, Circuit, CircuitState, End, Limits
from anysaga._errors import CircuitOpen, NotReadable
from anysaga._guard import CircuitRecord, CircuitStore
from anysaga._snapshot import codec_for

Change: TypeAlias = Callable[[Circuit, int], Circuit]
"""What becomes of a circuit at a moment (µs)."""

_CODEC = codec_for(Circuit, where="a circuit")
_log = logging.getLogger("anysaga.breaker")


class Judge(Protocol):
    """The breaker, as an attempt needs it."""

    limits: Limits

    def now(self) -> int:
        """The moment in µs, by this process's clock."""
        ...

    def judge(self, error: BaseException | None) -> End:
        """What it says about the service that a call ended with this error, or with none."""
        ...

    def tell(self, name: str, old: Circuit, new: Circuit) -> None:
        """Have the listeners hear of a change of state."""
        ...

    def tell_end(self, name: str, end: End, error: BaseException | None) -> None:
        """Have the listeners hear of the end of a call."""
        ...


@define(eq=False)
class Cell:
    """A circuit of this process, or what it last saw of a shared one."""

    circuit: Circuit = field(factory=Circuit)
    lock: threading.Lock = field(factory=threading.Lock)

    def change(self, judge: Judge, name: str, change: Change) -> None:
        """Change the circuit, whatever other threads do."""
        with self.lock:
            before = self.circuit
            after = self.circuit = change(before, judge.now())
        judge.tell(name, before, after)


class Attempt(AbstractAsyncContextManager[object]):
    """One call, through a circuit of this process."""

    __slots__ = ("_admission", "_cell", "_judge", "_name", "_turn")

    def __init__(self, judge: Judge, cell: Cell, name: str) -> None:
        self._judge = judge
        self._cell = cell
        self._name = name
        self._admission: Admission | None

    async def __aenter__(self) -> None:
        cell, judge = self._cell, self._judge
        before = cell.circuit
        if before.state is CircuitState.CLOSED:  # as nearly always: it lets everybody through, and nothing changes
            self._admission = None  # made when it is needed, which is hardly ever
            self._turn = before.turn
            return
        with cell.lock:
            before = cell.circuit
            is_closed = before.state is CircuitState.CLOSED
            holder, now = ("", 0) if is_closed else (uuid.uuid4().hex, judge.now())
            admission, after = _circuit.ask(before, holder, now, judge.limits)
            cell.circuit = after
        if admission is None:
            raise _refusal(self._name, before, now, judge.limits)
        self._admission = admission
        if not is_closed:
            judge.tell(self._name, before, after)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: types.TracebackType | None
    ) -> None:
        cell, judge = self._cell, self._judge
        end = End.SUCCESS if error is None else judge.judge(error)
        if end is not End.SUCCESS or not cell.circuit.is_quiet:
            admission = self._admission or Admission("", self._turn)
            cell.change(
                judge, self._name, lambda circuit, now: _circuit.ended(circuit, admission, end, now, judge.limits)
            )
        judge.tell_end(self._name, end, error)


class SharedAttempt(AbstractAsyncContextManager[object]):
    """One call, through a circuit in a store."""

    def __init__(self, judge: Judge, cell: Cell, name: str, circuits: CircuitStore) -> None:
        self._judge = judge
        self._cell = cell
        self._name = name
        self._circuits = circuits

    async def __aenter__(self) -> None:
        judge, holder = self._judge, uuid.uuid4().hex
        while True:
            record, before = await _load(self._circuits, self._name)
            admission, after = _circuit.ask(before, holder, record.now, judge.limits)
            if await _save(self._circuits, self._name, record, before, after):
                break
        self._cell.circuit = self._seen = after
        if admission is None:
            raise _refusal(self._name, before, record.now, judge.limits)
        self._admission = admission
        judge.tell(self._name, before, after)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: types.TracebackType | None
    ) -> None:
        judge, admission = self._judge, self._admission
        end = judge.judge(error)

        def change(circuit: Circuit, now: int) -> Circuit:
            return _circuit.ended(circuit, admission, end, now, judge.limits)

        if self._matters(end):
            with CancelScope(shield=True):
                await change_shared(judge, self._cell, self._name, self._circuits, change)
        judge.tell_end(self._name, end, error)

    def _matters(self, end: End) -> bool:
        if end is End.NEITHER:
            return self._seen.state is CircuitState.HALF_OPEN
        # Others may have failed since this call began, and this process have seen that: a success has to say so.
        return end is End.FAILURE or not (self._seen.is_quiet and self._cell.circuit.is_quiet)


async def change_shared(judge: Judge, cell: Cell, name: str, circuits: CircuitStore, change: Change) -> None:
    """Change a circuit in a store, whatever other processes do."""
    while True:
        record, before = await _load(circuits, name)
        after = change(before, record.now)
        if await _save(circuits, name, record, before, after):
            break
    cell.circuit = after
    judge.tell(name, before, after)


async def _load(circuits: CircuitStore, name: str) -> tuple[CircuitRecord, Circuit]:
    record = await circuits.load_circuit(name)
    if not record.version:
        return record, Circuit()
    try:
        return record, _CODEC.decode(record.text, where=f"the circuit {name!r}")
    except NotReadable as error:
        # What it knew is worth less than the calls that it would stop for ever.
        _log.warning("a circuit begins anew: %s", error)
        return record, Circuit()


async def _save(circuits: CircuitStore, name: str, record: CircuitRecord, before: Circuit, after: Circuit) -> bool:
    """Write what changed. False: somebody else wrote meanwhile."""
    if after == before:
        return True
    is_saved = False
    with CancelScope(shield=True):  # a permit that was written but never received would be held until it runs out
        text = _CODEC.encode(after, where="a circuit")
        is_saved = await circuits.save_circuit(name, text, before=record.version)
    return is_saved  # noqa: RET504 - to mypy, a scope might swallow an exception


def _refusal(name: str, circuit: Circuit, now: int, limits: Limits) -> CircuitOpen:
    return CircuitOpen(name, max(_circuit.free_at(circuit, limits) - now, 0) / 1_000_000)
