"""Every error that a user of anysaga can meet, one class a situation.

Ground floor: imports nothing of ours. Each class is an attrs exception: its fields are its `args`, so errors survive
pickling, and the sentence is made when it is read. Their repr is that of any exception: generating others would cost
each import. A sentence names the saga, the step and the way out.
"""

from __future__ import annotations

from attrs import define


class AnysagaError(Exception):
    """The root of all errors of anysaga."""


class NotDone(AnysagaError):
    """Raise it from `act` to say: this attempt had no effect, and can have none later.

    The step then counts as not done: nothing of it is undone. Any arguments are yours.
    """


class StepLost(AnysagaError):
    """Stands for an attempt that ended with its process: there is an intent in the log and no outcome.

    Never raised. Such an attempt is acted again whatever `Retry.on` says: that a process died says nothing of a step.
    """


@define(slots=False, eq=False, repr=False)
class CallSkipped(NotDone):
    """A middleware returned without calling on, so nothing was done. `step` is empty where that was a whole saga."""

    saga: str
    saga_id: str
    step: str

    def __str__(self) -> str:
        step = f"step {self.step!r} of " if self.step else ""
        return (
            f"{step}saga {self.saga!r} ({self.saga_id}) was not called: a middleware returned without calling on. "
            "Have it await `call_next()`, or raise what keeps it from that"
        )


@define(slots=False, eq=False, repr=False)
class MiddlewareMisused(AnysagaError, RuntimeError):
    """A middleware did with `call_next` what cannot be done. `step` is empty where that was around a whole saga."""

    saga: str
    saga_id: str
    step: str
    problem: str

    def __str__(self) -> str:
        step = f"step {self.step!r} of " if self.step else ""
        return (
            f"a middleware around {step}saga {self.saga!r} ({self.saga_id}) {self.problem}: "
            "await `call_next()` once, in the task it was called in; for further attempts give the step a `retry`"
        )


@define(slots=False, eq=False, repr=False)
class InvalidArgument(AnysagaError, ValueError):
    """An option has a value that cannot work. Raised where it is given."""

    name: str
    value: object
    expected: str

    def __str__(self) -> str:
        return f"{self.name}={self.value!r} cannot work: {self.expected}"


@define(slots=False, eq=False, repr=False)
class DefinitionError(AnysagaError, TypeError):
    """A saga cannot be declared like this. `problems` lists all that is wrong, `outline` shows the saga."""

    saga: str
    problems: tuple[str, ...]
    outline: str

    def __str__(self) -> str:
        problems = "".join(f"\n  - {problem}" for problem in self.problems)
        return f"saga {self.saga!r} cannot be declared:{problems}\n{self.outline}"


@define(slots=False, eq=False, repr=False)
class NotStorable(AnysagaError, ValueError):
    """A value cannot be stored. `where` names the field, never the value; `reason` says what is wrong with it."""

    where: str
    reason: str

    def __str__(self) -> str:
        return f"{self.where} cannot be stored: {self.reason}"


@define(slots=False, eq=False, repr=False)
class CircuitOpen(AnysagaError, ConnectionError):
    """A circuit breaker let a call not through. `seconds` is how long it will let none through, as far as it knows."""

    circuit: str
    seconds: float

    def __str__(self) -> str:
        return f"the circuit {self.circuit!r} is open, and lets nobody through for {self.seconds:.3g} seconds more"


@define(slots=False, eq=False, repr=False)
class MissingPackage(AnysagaError, ImportError):
    """Something needs a package that is not installed. `extra` brings it."""

    package: str
    extra: str

    def __str__(self) -> str:
        return f"the package {self.package!r} is not installed: pip install 'anysaga[{self.extra}]'"


@define(slots=False, eq=False, repr=False)
class ContextConflict(AnysagaError, ValueError):
    """Two branches of a Parallel changed the same `fields` of the context. The saga goes back."""

    saga: str
    saga_id: str
    step: str
    fields: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"saga {self.saga!r} ({self.saga_id}): step {self.step!r} changed {', '.join(self.fields)} of the context, "
            "and so did another step of its Parallel: let each of them change fields of its own"
        )


@define(slots=False, eq=False, repr=False)
class NotReadable(AnysagaError, ValueError):
    """A stored text does not fit the type it should become: the type changed, or the text was damaged."""

    where: str
    reason: str

    def __str__(self) -> str:
        return (
            f"the stored text of {self.where} cannot be read: {self.reason}. "
            "Bring back the definition that wrote it, or give new fields a default"
        )


@define(slots=False, eq=False, repr=False)
class NotProvided(AnysagaError, LookupError):
    """The container has nothing for a type that a step asks for."""

    wanted: str
    needed_by: str

    def __str__(self) -> str:
        return (
            f"the container has no {self.wanted}, which {self.needed_by} asks for: "
            f"add `{self.wanted}: factory` to the mapping, or register it in your container"
        )


@define(slots=False, eq=False, repr=False)
class ContainerFailed(AnysagaError):
    """A container could not do its part for a saga: `doing` says which. Its own error is the `__cause__`.

    `step` is empty where it was about the scope. Raised before anything is done; where a scope does not close, it is
    logged instead, since the saga is what it is.
    """

    saga: str
    saga_id: str
    step: str
    doing: str
    reason: str

    def __str__(self) -> str:
        step = f" {self.step!r}" if self.step else ""
        return (
            f"saga {self.saga!r} ({self.saga_id}): its container could not {self.doing}{step}: {self.reason}. "
            "The saga is unchanged by that; mend the container, or what it needs"
        )


@define(slots=False, eq=False, repr=False)
class SagaParked(AnysagaError):
    """A saga cannot go on without a person. The original error, if there is one, is its `__cause__`."""

    saga: str
    saga_id: str
    step: str
    reason: str

    def __str__(self) -> str:
        step = f" at step {self.step!r}" if self.step else ""
        return (
            f"saga {self.saga!r} ({self.saga_id}) is parked{step}: {self.reason}. It waits for a person: "
            f"resolve(), retry(), compensate() or abandon() it, then recover_saga()"
        )


@define(slots=False, eq=False, repr=False)
class SagaCompensated(AnysagaError):
    """A saga went back before, and everything it had done is undone. `cause` is the stored text of the first error."""

    saga: str
    saga_id: str
    cause: str

    def __str__(self) -> str:
        return (
            f"saga {self.saga!r} ({self.saga_id}) was compensated: {self.cause}. "
            "Everything it did is undone; start again under a new saga id"
        )


@define(slots=False, eq=False, repr=False)
class SagaAbandoned(AnysagaError):
    """A person closed this saga as it was. `reason` is what that person wrote."""

    saga: str
    saga_id: str
    reason: str

    def __str__(self) -> str:
        return (
            f"saga {self.saga!r} ({self.saga_id}) was abandoned by a person: {self.reason}. "
            "Nothing more happens to it; start again under a new saga id"
        )


@define(slots=False, eq=False, repr=False)
class SagaAlreadyRunning(AnysagaError):
    """A living owner drives this saga at the moment, perhaps in this very process."""

    saga_id: str
    owner: str

    def __str__(self) -> str:
        return (
            f"saga {self.saga_id!r} is already running, owned by {self.owner}: wait for its end, "
            "or choose another saga id if this is other work"
        )


@define(slots=False, eq=False, repr=False)
class SagaNotFound(AnysagaError, LookupError):
    """The store knows no saga of this id."""

    saga_id: str

    def __str__(self) -> str:
        return f"there is no saga {self.saga_id!r} in this store: check the id and the store's address"


@define(slots=False, eq=False, repr=False)
class SagaMismatch(AnysagaError):
    """The saga stored under this id is another one: other saga class, or another payload. Nothing was changed."""

    saga_id: str
    difference: str

    def __str__(self) -> str:
        return (
            f"saga id {self.saga_id!r} is taken: {self.difference}. Choose a new id for new work, "
            "or pass None as the context to resume what is stored"
        )


@define(slots=False, eq=False, repr=False)
class SagaTimeout(AnysagaError, TimeoutError):
    """The time limit of the whole saga ran out before a point of no return; what it did is undone."""

    saga: str
    saga_id: str
    seconds: float

    def __str__(self) -> str:
        return (
            f"saga {self.saga!r} ({self.saga_id}) did not end within its {self.seconds:g} seconds: "
            "raise its timeout, or start again under a new saga id"
        )


@define(slots=False, eq=False, repr=False)
class StepTimeout(AnysagaError, TimeoutError):
    """A step's time limit ran out, so nobody can say whether it took effect."""

    saga: str
    saga_id: str
    step: str
    seconds: float

    def __str__(self) -> str:
        return (
            f"step {self.step!r} of saga {self.saga!r} ({self.saga_id}) did not end within its {self.seconds:g} "
            "seconds: raise its timeout, or give it a retry or a probe"
        )


@define(slots=False, eq=False, repr=False)
class PivotPassed(AnysagaError):
    """`abort()` came after the point of no return: the saga can only go forward."""

    saga: str
    saga_id: str
    pivot: str

    def __str__(self) -> str:
        return (
            f"saga {self.saga!r} ({self.saga_id}) has passed its pivot {self.pivot!r} and cannot be undone: "
            "let it go on, or suspend() it and recover_saga() later"
        )


@define(slots=False, eq=False, repr=False)
class StaleFence(AnysagaError):
    """Another owner has taken this saga over; what this one wanted to write was refused."""

    saga_id: str
    fence: int

    def __str__(self) -> str:
        return (
            f"saga {self.saga_id!r} was taken over by another owner (fence {self.fence} is no longer current): "
            "this owner stops and undoes nothing; the new owner finishes the saga"
        )


@define(slots=False, eq=False, repr=False)
class OperationRefused(AnysagaError):
    """`resolve`, `retry`, `compensate` or `abandon` does not fit the state that the saga is in."""

    saga_id: str
    operation: str
    reason: str

    def __str__(self) -> str:
        return f"cannot {self.operation} saga {self.saga_id!r}: {self.reason}"


@define(slots=False, eq=False, repr=False)
class ContextNotMapped(AnysagaError, LookupError):
    """A mediator was given a context, and no saga is bound to its type. `known` are the types that have one."""

    context: str
    known: tuple[str, ...]

    def __str__(self) -> str:
        known = ", ".join(self.known) or "nothing"
        return f"no saga is bound to {self.context}: `sagas.bind({self.context}, ...)`; the map has {known}"


@define(slots=False, eq=False, repr=False)
class ContextAlreadyMapped(AnysagaError, ValueError):
    """A second saga was bound to a type of context. `bound` is the first one."""

    context: str
    saga: str
    bound: str

    def __str__(self) -> str:
        return (
            f"saga {self.saga!r} cannot be bound to {self.context}, which starts saga {self.bound!r} already: "
            "give each saga a context type of its own"
        )


@define(slots=False, eq=False, repr=False)
class SagaOfOtherContext(AnysagaError, TypeError):
    """A saga was bound to a type that is not that of its context, which is `expected`."""

    context: str
    saga: str
    expected: str

    def __str__(self) -> str:
        return (
            f"saga {self.saga!r} works on {self.expected}, not on {self.context}: "
            f"`sagas.bind({self.expected}, ...)`, or declare the saga for {self.context}"
        )


@define(slots=False, eq=False, repr=False)
class MediatorClosed(AnysagaError, RuntimeError):
    """The mediator was closed before the saga's end. What was stored of the saga is unharmed, and nothing is undone."""

    saga: str
    saga_id: str

    def __str__(self) -> str:
        return (
            f"saga {self.saga!r} ({self.saga_id}) is not driven to its end here, since the mediator is closed: "
            "resume() it by its id, or let recover() or a worker finish it"
        )


@define(slots=False, eq=False, repr=False)
class TransactionMisused(AnysagaError, RuntimeError):
    """A saga transaction was used outside its `async with`, twice, or by two tasks at once."""

    saga: str
    problem: str

    def __str__(self) -> str:
        return (
            f"the transaction of saga {self.saga!r} {self.problem}: "
            "write `async with saga.transaction(...) as transaction: async for step in transaction: ...`"
        )


@define(slots=False, eq=False, repr=False)
class NoCurrentStep(AnysagaError, LookupError):
    """`current_step()` or `checkpoint()` was called where no step of a saga runs."""

    function: str

    def __str__(self) -> str:
        return f"{self.function} works only inside act, compensate or probe of a step that a saga runs"


@define(slots=False, eq=False, repr=False)
class CheckpointRefused(AnysagaError, RuntimeError):
    """`checkpoint()` was called where nothing can be saved in the middle."""

    step: str
    reason: str

    def __str__(self) -> str:
        return f"checkpoint() in step {self.step!r} was refused: {self.reason}"


class NoCurrentMessage(AnysagaError, LookupError):
    """`current_message()` was called where no event is handled."""

    def __str__(self) -> str:
        return "current_message() works only inside the handler of an event"


@define(slots=False, eq=False, repr=False)
class EventRefused(AnysagaError, RuntimeError):
    """`current_step().record()` was called where an event cannot be kept."""

    step: str
    reason: str

    def __str__(self) -> str:
        return f"an event of step {self.step!r} was refused: {self.reason}"


@define(slots=False, eq=False, repr=False)
class BlockingCallInLoop(AnysagaError, RuntimeError):
    """A blocking function was called inside a running event loop, which it would stop."""

    function: str
    instead: str

    def __str__(self) -> str:
        return f"{self.function} would block the event loop that runs here: use `{self.instead}` instead"


class StorageError(AnysagaError):
    """The root of what goes wrong with a store. It never changes a saga's state."""


@define(slots=False, eq=False, repr=False)
class StorageUnavailable(StorageError):
    """The store did not answer, or refused for a reason of its own. Whether the last write took effect is open."""

    store: str
    reason: str

    def __str__(self) -> str:
        return (
            f"the store {self.store} is not available: {self.reason}. No saga's state was changed; "
            "once it is back, recover() finishes what was interrupted"
        )


@define(slots=False, eq=False, repr=False)
class StorageClosed(StorageError, RuntimeError):
    """The store was closed before."""

    store: str

    def __str__(self) -> str:
        return f"the store {self.store} is closed: keep the saga's work inside its `async with`"


@define(slots=False, eq=False, repr=False)
class StorageRefused(StorageError, ValueError):
    """A store cannot be used with this address or these options."""

    store: str
    reason: str

    def __str__(self) -> str:
        return f"the store {self.store} cannot be used: {self.reason}"


@define(slots=False, eq=False, repr=False)
class MissingDriver(StorageError, ImportError):
    """A package that this store needs is not installed. `extra` names the extra that brings it."""

    store: str
    package: str
    extra: str

    def __str__(self) -> str:
        return f"the store {self.store} needs {self.package}: pip install 'anysaga[{self.extra}]'"


@define(slots=False, eq=False, repr=False)
class CorruptRecord(StorageError):
    """What the store has of a saga is no saga's record."""

    saga_id: str
    reason: str

    def __str__(self) -> str:
        return (
            f"the record of saga {self.saga_id!r} is damaged: {self.reason}. Restore it from a backup, or abandon() it"
        )


@define(slots=False, eq=False, repr=False)
class PublishFailed(AnysagaError):
    """A broker did not confirm a message. `message_id` is empty where it is about a whole batch.

    It may have arrived all the same. The broker's or client's own error, if there is one, is the `__cause__`.
    """

    broker: str
    message_id: str
    reason: str

    def __str__(self) -> str:
        what = f"message {self.message_id!r}" if self.message_id else "any message"
        return f"{self.broker} did not confirm {what}: {self.reason}. Publish it again, with the same id"


class UnfinishedSagaWarning(UserWarning):
    """`async with` was left before the saga's end without `suspend()`: the saga waits for somebody to resume it."""


class ContextChangedWarning(UserWarning):
    """The context was changed between two steps by the code that watches; the change was discarded."""
