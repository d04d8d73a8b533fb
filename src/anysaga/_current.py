"""What a running step can ask about itself: a context variable, so that services deep below a step see it too."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Literal, Protocol

from attrs import define

from anysaga._errors import CheckpointRefused, EventRefused, InvalidArgument, NoCurrentStep
from anysaga._records import Outcome, StoredEvent


class Keeper(Protocol):
    """Who keeps what a step saves and records."""

    async def save(self, current: CurrentStep, /) -> None: ...

    def store(self, current: CurrentStep, event: object, /, *, held: bool) -> StoredEvent: ...


@define(eq=False, repr=False)
class CurrentStep:
    """The call of a step that runs at this moment.

    `key` is the idempotency key: equal across attempts, processes and versions of the code, never equal for two steps
    or for an act and its undo. `attempt` counts from 1. `fence` rises with every change of the saga's owner: a
    receiver that remembers the highest one it saw can refuse a late call of an earlier owner. `outcome` is what is
    known of the step's effect so far: None in the first attempt of an act; UNKNOWN in `compensate` says that the
    effect may or may not be there.
    """

    saga_id: str
    saga_name: str
    step_name: str
    path: str
    attempt: int
    key: str
    fence: int
    outcome: Outcome | None = None
    _keeper: Keeper | None = None
    _saves: bool = False
    _records: bool = False
    _stop: bool = False
    events: tuple[StoredEvent, ...] = ()
    lost_event: Exception | None = None

    @property
    def act_key(self) -> str:
        """The idempotency key of the act, also inside `compensate`: the one to refuse from now on, as a tombstone."""
        return key_of(self.saga_id, self.path, "act")

    @property
    def cancelled(self) -> bool:
        """Whether a plain-function step is asked to end: its limit ran out or its caller was cancelled."""
        return self._stop

    def ask_to_end(self) -> None:
        """Tell the step's thread that it should end. Called by the engine."""
        self._stop = True

    def record(self, event: object, *, publish: Literal["now", "at_end"] = "now") -> None:
        """Record an event: a fact that others learn of once this act, or this undo, is durably done.

        It is stored in the same commit as that outcome, and dropped if the call ends in any other way. From then on it
        is delivered at least once, to handlers and to the broker, in the order of the saga's events. An undo of the
        step does not take it back: record another one in `compensate`. With ``publish="at_end"`` it waits until the
        saga is completed, and comes after its other events; it is dropped if the saga is not.

        The event is an attrs class or a dataclass; what it holds now is what is stored.

        Raises `NotStorable` if it cannot be stored (a step that goes on in spite of it counts as failed), and
        `EventRefused` where there is nothing to keep it.
        """
        if self._keeper is None or not self._records:
            raise EventRefused(self.step_name, "only act and compensate can record events")
        if publish not in ("now", "at_end"):
            raise InvalidArgument("publish", publish, "choose 'now' or 'at_end'")
        try:
            stored = self._keeper.store(self, event, held=publish == "at_end")
        except Exception as error:
            self.lost_event = error
            raise
        self.events = (*self.events, stored)

    async def save(self) -> None:
        """Make the context durable as it is now; see `checkpoint`."""
        if self._keeper is None or not self._saves:
            raise CheckpointRefused(self.step_name, "only act can save in the middle; an undo is saved with its end")
        await self._keeper.save(self)


_CURRENT: ContextVar[CurrentStep] = ContextVar("anysaga_current_step")


def key_of(saga_id: str, path: str, verb: str) -> str:
    """The idempotency key of an act or an undo.

    Read from the right it has exactly one meaning, whatever characters the saga id has: two calls never share a key.
    """
    return f"{saga_id}:{path}:{verb}"


def current_step() -> CurrentStep:
    """The step that runs here, with its idempotency key.

    Works in act, compensate and probe, in what they call, and in their worker threads. Raises `NoCurrentStep`
    anywhere else.

        await bank.charge(order.total, idempotency_key=current_step().key)
    """
    try:
        return _CURRENT.get()
    except LookupError:
        raise NoCurrentStep("current_step()") from None


async def checkpoint() -> None:
    """Save the context in the middle of an act.

    When it returns, the changes made so far are durable: a further attempt starts with them, and so does the undo of
    an attempt that was lost in a crash. In a plain-function step call ``anyio.from_thread.run(checkpoint)``.

    Raises `NoCurrentStep` outside a step, `CheckpointRefused` where nothing can be saved in the middle, `NotStorable`
    if the context cannot be stored.
    """
    try:
        step = _CURRENT.get()
    except LookupError:
        raise NoCurrentStep("checkpoint()") from None
    await step.save()


enter = _CURRENT.set
leave = _CURRENT.reset
