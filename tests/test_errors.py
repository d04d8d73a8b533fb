"""Every message that users can read, in one table, and what holds for all errors."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest

from anysaga import _errors
from anysaga._errors import (
    AnysagaError,
    BlockingCallInLoop,
    CallSkipped,
    CheckpointRefused,
    CircuitOpen,
    ContainerFailed,
    ContextAlreadyMapped,
    ContextChangedWarning,
    ContextConflict,
    ContextNotMapped,
    CorruptRecord,
    DefinitionError,
    EventRefused,
    InvalidArgument,
    MediatorClosed,
    MiddlewareMisused,
    MissingDriver,
    MissingPackage,
    NoCurrentMessage,
    NoCurrentStep,
    NotDone,
    NotProvided,
    NotReadable,
    NotStorable,
    OperationRefused,
    PivotPassed,
    PublishFailed,
    RunnerMisused,
    SagaAbandoned,
    SagaAlreadyRunning,
    SagaCompensated,
    SagaMismatch,
    SagaNotFound,
    SagaOfOtherContext,
    SagaParked,
    SagaTimeout,
    StaleFence,
    StepLost,
    StepTimeout,
    StorageClosed,
    StorageError,
    StorageRefused,
    StorageUnavailable,
    StrayCancellation,
    StrayStop,
    TransactionMisused,
    UnfinishedSagaWarning,
)

MESSAGES: list[tuple[Exception, str]] = [
    (AnysagaError("something went wrong"), "something went wrong"),
    (NotDone("no funds"), "no funds"),
    (StepLost(), ""),
    (
        InvalidArgument("attempts", 0, "give a whole number of attempts, 1 or more"),
        "attempts=0 cannot work: give a whole number of attempts, 1 or more",
    ),
    (
        DefinitionError("order", ("it has no steps", "its name is empty"), "order: (nothing)"),
        "saga 'order' cannot be declared:\n  - it has no steps\n  - its name is empty\norder: (nothing)",
    ),
    (
        NotStorable("Order.total", "NaN is no JSON"),
        "Order.total cannot be stored: NaN is no JSON",
    ),
    (
        NotReadable("Order.total", "it is no number"),
        (
            "the stored text of Order.total cannot be read: it is no number. "
            "Bring back the definition that wrote it, or give new fields a default"
        ),
    ),
    (
        NotProvided("InventoryService", "ReserveInventory"),
        (
            "the container has no InventoryService, which ReserveInventory asks for: "
            "add `InventoryService: factory` to the mapping, or register it in your container"
        ),
    ),
    (
        ContainerFailed("order", "order-17", "ChargePayment", "make the step", "ConnectionError: no answer"),
        (
            "saga 'order' (order-17): its container could not make the step 'ChargePayment': "
            "ConnectionError: no answer. The saga is unchanged by that; mend the container, or what it needs"
        ),
    ),
    (
        SagaParked("order", "order-17", "ChargePayment", "its undo failed 3 times"),
        (
            "saga 'order' (order-17) is parked at step 'ChargePayment': its undo failed 3 times. It waits "
            "for a person: resolve(), retry(), compensate() or abandon() it, then recover_saga()"
        ),
    ),
    (
        SagaParked("order", "order-17", "", "the log does not fit the code"),
        (
            "saga 'order' (order-17) is parked: the log does not fit the code. It waits for a person: "
            "resolve(), retry(), compensate() or abandon() it, then recover_saga()"
        ),
    ),
    (
        SagaCompensated("order", "order-17", "CardDeclined: no funds"),
        (
            "saga 'order' (order-17) was compensated: CardDeclined: no funds. "
            "Everything it did is undone; start again under a new saga id"
        ),
    ),
    (
        SagaAbandoned("order", "order-17", "refunded by hand"),
        (
            "saga 'order' (order-17) was abandoned by a person: refunded by hand. "
            "Nothing more happens to it; start again under a new saga id"
        ),
    ),
    (
        SagaAlreadyRunning("order-17", "web-3"),
        (
            "saga 'order-17' is already running, owned by web-3: wait for its end, "
            "or choose another saga id if this is other work"
        ),
    ),
    (
        SagaNotFound("order-17"),
        "there is no saga 'order-17' in this store: check the id and the store's address",
    ),
    (
        SagaMismatch("order-17", "its saga is 'refund', not 'order'"),
        (
            "saga id 'order-17' is taken: its saga is 'refund', not 'order'. Choose a new id for new work; "
            "what is stored goes on by its id alone, without a context, and with the saga that it belongs to"
        ),
    ),
    (
        MissingPackage("aiobreaker", "aiobreaker"),
        "the package 'aiobreaker' is not installed: pip install 'anysaga[aiobreaker]'",
    ),
    (
        CircuitOpen("order:2/primary", 42.5),
        "the circuit 'order:2/primary' is open, and lets nobody through for 42.5 seconds more",
    ),
    (
        ContextConflict("order", "order-17", "BookCar", ("car", "price")),
        (
            "saga 'order' (order-17): step 'BookCar' changed car, price of the context, and so did another step of its "
            "Parallel: let each of them change fields of its own"
        ),
    ),
    (
        SagaTimeout("order", "order-17", 30.0),
        (
            "saga 'order' (order-17) did not end within its 30 seconds: "
            "raise its timeout, or start again under a new saga id"
        ),
    ),
    (
        StepTimeout("order", "order-17", "ChargePayment", 0.5),
        (
            "step 'ChargePayment' of saga 'order' (order-17) did not end within its 0.5 seconds: "
            "raise its timeout, or give it a retry or a probe"
        ),
    ),
    (
        StrayStop("step 'ChargePayment' of saga 'order' (order-17)"),
        (
            "step 'ChargePayment' of saga 'order' (order-17) ended with StopAsyncIteration, which would look like the "
            "end of the saga to who iterates over it. Catch it in the step, or give `anext` a default"
        ),
    ),
    (
        StrayCancellation("step 'ChargePayment' of saga 'order' (order-17)"),
        (
            "step 'ChargePayment' of saga 'order' (order-17) ended with a cancellation, though nobody cancelled it: "
            "a task or a future that it awaited was cancelled, or the very task that it runs in. Catch that where it "
            "is awaited, or do not cancel it"
        ),
    ),
    (
        PivotPassed("order", "order-17", "ChargePayment"),
        (
            "saga 'order' (order-17) has passed its pivot 'ChargePayment' and cannot be undone: "
            "let it go on, or suspend() it and recover_saga() later"
        ),
    ),
    (
        StaleFence("order-17", 2),
        (
            "saga 'order-17' was taken over by another owner (fence 2 is no longer current): "
            "this owner stops and undoes nothing; the new owner finishes the saga"
        ),
    ),
    (
        OperationRefused("order-17", "retry", "it is COMPLETED, not PARKED"),
        "cannot retry saga 'order-17': it is COMPLETED, not PARKED",
    ),
    (
        CallSkipped("order", "order-17", "ChargePayment"),
        (
            "step 'ChargePayment' of saga 'order' (order-17) was not called: a middleware returned without calling on. "
            "Have it await `call_next()`, or raise what keeps it from that"
        ),
    ),
    (
        MiddlewareMisused("order", "order-17", "", "called on twice"),
        (
            "a middleware around saga 'order' (order-17) called on twice: "
            "await `call_next()` once, in the task it was called in; for further attempts give the step a `retry`"
        ),
    ),
    (
        ContextNotMapped("Order", ("Refund", "Trip")),
        "no saga is bound to Order: `sagas.bind(Order, ...)`; the map has Refund, Trip",
    ),
    (
        ContextAlreadyMapped("Order", "rush", "order"),
        (
            "saga 'rush' cannot be bound to Order, which starts saga 'order' already: "
            "give each saga a context type of its own"
        ),
    ),
    (
        SagaOfOtherContext("Order", "refund", "Refund"),
        ("saga 'refund' works on Refund, not on Order: `sagas.bind(Refund, ...)`, or declare the saga for Order"),
    ),
    (
        MediatorClosed("order", "order-17"),
        (
            "saga 'order' (order-17) is not driven to its end here, since the mediator is closed: "
            "resume() it by its id, or let recover() or a worker finish it"
        ),
    ),
    (
        RunnerMisused("BlockingRunner", "is used outside its `with`", "write `with BlockingRunner(...) as runner:`"),
        "BlockingRunner is used outside its `with`: write `with BlockingRunner(...) as runner:`",
    ),
    (
        TransactionMisused("order", "was used outside its `async with`"),
        (
            "the transaction of saga 'order' was used outside its `async with`: "
            "write `async with saga.transaction(...) as transaction: async for step in transaction: ...`"
        ),
    ),
    (
        NoCurrentStep("checkpoint()"),
        "checkpoint() works only inside act, compensate or probe of a step that a saga runs",
    ),
    (
        CheckpointRefused("ChargePayment", "it is being undone"),
        "checkpoint() in step 'ChargePayment' was refused: it is being undone",
    ),
    (
        EventRefused("ChargePayment", "this storage keeps no events: use one that implements Outbox"),
        "an event of step 'ChargePayment' was refused: this storage keeps no events: use one that implements Outbox",
    ),
    (NoCurrentMessage(), "current_message() works only inside the handler of an event"),
    (
        BlockingCallInLoop("run_saga()", "await saga.run(order)"),
        "run_saga() would block the event loop that runs here: use `await saga.run(order)` instead",
    ),
    (StorageError("something went wrong"), "something went wrong"),
    (
        StorageUnavailable("sqlite:///orders.db", "the disk is full"),
        (
            "the store sqlite:///orders.db is not available: the disk is full. No saga's state was changed; "
            "once it is back, recover() finishes what was interrupted"
        ),
    ),
    (
        StorageClosed("sqlite:///orders.db"),
        (
            "the store sqlite:///orders.db is closed, and does not open again: keep the saga's work inside its "
            "`async with`, and make another one for what comes later"
        ),
    ),
    (
        StorageRefused("sqlite://", "its database would be gone with its connection"),
        "the store sqlite:// cannot be used: its database would be gone with its connection",
    ),
    (
        MissingDriver("postgresql+psycopg://db", "psycopg", "postgres"),
        "the store postgresql+psycopg://db needs psycopg: pip install 'anysaga[postgres]'",
    ),
    (
        CorruptRecord("order-17", "entry 3 is missing"),
        "the record of saga 'order-17' is damaged: entry 3 is missing. Restore it from a backup, or abandon() it",
    ),
    (
        PublishFailed("amqp://orders@broker/", "order-17/1/act/1", "the broker refused it"),
        (
            "amqp://orders@broker/ did not confirm message 'order-17/1/act/1': the broker refused it. "
            "Publish it again, with the same id"
        ),
    ),
    (
        PublishFailed("amqp://broker/", "", "the publisher is closed"),
        "amqp://broker/ did not confirm any message: the publisher is closed. Publish it again, with the same id",
    ),
    (UnfinishedSagaWarning("saga 'order' is unfinished"), "saga 'order' is unfinished"),
    (ContextChangedWarning("the change was discarded"), "the change was discarded"),
]

# What else an error can be caught as: the builtin that says the same.
ALSO: dict[type[Exception], type[Exception]] = {
    BlockingCallInLoop: RuntimeError,
    CheckpointRefused: RuntimeError,
    DefinitionError: TypeError,
    EventRefused: RuntimeError,
    InvalidArgument: ValueError,
    MissingDriver: ImportError,
    MissingPackage: ImportError,
    NoCurrentMessage: LookupError,
    NoCurrentStep: LookupError,
    NotProvided: LookupError,
    NotReadable: ValueError,
    NotStorable: ValueError,
    SagaNotFound: LookupError,
    CircuitOpen: ConnectionError,
    ContextAlreadyMapped: ValueError,
    ContextConflict: ValueError,
    ContextNotMapped: LookupError,
    MediatorClosed: RuntimeError,
    MiddlewareMisused: RuntimeError,
    SagaOfOtherContext: TypeError,
    SagaTimeout: TimeoutError,
    StepTimeout: TimeoutError,
    StorageClosed: RuntimeError,
    StorageRefused: ValueError,
    RunnerMisused: RuntimeError,
    StrayStop: RuntimeError,
    TransactionMisused: RuntimeError,
}

ALL = [kind for kind in vars(_errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
NAMES = [f"{type(error).__name__}{row}" for row, (error, _) in enumerate(MESSAGES)]
EACH = pytest.mark.parametrize("error", [error for error, _ in MESSAGES], ids=NAMES)


def test_the_table_has_every_error() -> None:
    """No class is missing in the table."""
    assert {type(error) for error, _ in MESSAGES} == set(ALL)


@pytest.mark.parametrize(
    ("error", "message"), [pytest.param(*row, id=name) for name, row in zip(NAMES, MESSAGES, strict=True)]
)
def test_messages(error: Exception, message: str) -> None:
    """An error reads as the table says."""
    assert str(error) == message


@EACH
def test_arguments_rebuild_the_error(error: Exception) -> None:
    """The `args` of an error are those of its constructor."""
    again = type(error)(*error.args)

    assert (str(again), vars(again)) == (str(error), vars(error))


def pickled(error: Exception) -> Exception:
    again: Exception = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    return again


@EACH
@pytest.mark.parametrize("travel", [copy.copy, pickled], ids=["copy", "pickle"])
def test_errors_travel(error: Exception, travel: Callable[[Exception], Exception]) -> None:
    """A copied or pickled error keeps its class, attributes, sentence and notes."""
    error = type(error)(*error.args)
    error.add_note("saga 'order' (order-17), step 'ChargePayment': undone")

    again = travel(error)

    assert type(again) is type(error)
    assert (again.args, str(again), vars(again)) == (error.args, str(error), vars(error))
    assert again.__notes__ == ["saga 'order' (order-17), step 'ChargePayment': undone"]


@pytest.mark.parametrize("kind", ALL)
def test_one_root(kind: type[Exception]) -> None:
    """All errors of anysaga are caught by `AnysagaError`, and nothing is an error that only warns."""
    assert issubclass(kind, AnysagaError) is not issubclass(kind, Warning)
    assert not issubclass(kind, Warning) or issubclass(kind, UserWarning)


def test_storage_errors_have_a_root() -> None:
    """What a store can raise about itself is caught by `StorageError`."""
    about_stores = {kind for kind in ALL if kind.__name__.startswith("Storage")} | {MissingDriver, CorruptRecord}

    assert {kind for kind in ALL if issubclass(kind, StorageError)} == about_stores


def test_builtin_bases() -> None:
    """An error is also the builtin that says the same, and no other one."""
    found = {
        kind: base for kind in ALL for base in kind.__bases__ if base.__module__ == "builtins" and base is not Exception
    }
    warnings = {UnfinishedSagaWarning: UserWarning, ContextChangedWarning: UserWarning}

    assert found == ALSO | warnings


def test_errors_can_be_raised_again() -> None:
    """An error takes a cause, a context and a traceback, as any exception does."""
    with pytest.raises(SagaParked, match="parked at step 'ChargePayment'") as caught:
        raise SagaParked("order", "order-17", "ChargePayment", "in doubt") from ConnectionError("lost")

    assert isinstance(caught.value.__cause__, ConnectionError)
    assert caught.value.step == "ChargePayment"


def test_equal_errors_stay_two() -> None:
    """Two errors with equal attributes are two errors, so that both can stand in one group."""
    assert SagaNotFound("order-17") != SagaNotFound("order-17")
