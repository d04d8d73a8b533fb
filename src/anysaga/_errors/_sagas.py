"""How a saga ends otherwise than well, and what cannot be done with it."""

from __future__ import annotations

from attrs import define

from ._root import AnysagaError


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
            f"saga id {self.saga_id!r} is taken: {self.difference}. Choose a new id for new work; "
            "what is stored goes on by its id alone, without a context, and with the saga that it belongs to"
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
    """A saga transaction was used outside its `async with`, twice, by two tasks at once, or too late."""

    saga: str
    problem: str

    def __str__(self) -> str:
        return (
            f"the transaction of saga {self.saga!r} {self.problem}: "
            "write `async with saga.transaction(...) as transaction: async for step in transaction: ...`"
        )


@define(slots=False, eq=False, repr=False)
class BlockingCallInLoop(AnysagaError, RuntimeError):
    """A blocking function was called inside a running event loop, which it would stop."""

    function: str
    instead: str

    def __str__(self) -> str:
        return f"{self.function} would block the event loop that runs here: use `{self.instead}` instead"


@define(slots=False, eq=False, repr=False)
class RunnerMisused(AnysagaError, RuntimeError):
    """A runner was used outside its `with`, entered twice or kept over a fork, or an iterator before its start."""

    runner: str
    problem: str
    instead: str

    def __str__(self) -> str:
        return f"{self.runner} {self.problem}: {self.instead}"


class UnfinishedSagaWarning(UserWarning):
    """`async with` was left before the saga's end without `suspend()`: the saga waits for somebody to resume it."""


class ContextChangedWarning(UserWarning):
    """The context was changed between two steps by the code that watches; the change was discarded."""
