"""Sagas for structured concurrency: transactions across services that survive a crash, on asyncio and Trio."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anysaga import _lazy
from anysaga._composites import Fallback as Fallback
from anysaga._composites import Parallel as Parallel
from anysaga._current import CurrentStep as CurrentStep
from anysaga._current import checkpoint as checkpoint
from anysaga._current import current_step as current_step
from anysaga._errors import AnysagaError as AnysagaError
from anysaga._errors import BlockingCallInLoop as BlockingCallInLoop
from anysaga._errors import CallSkipped as CallSkipped
from anysaga._errors import CheckpointRefused as CheckpointRefused
from anysaga._errors import CircuitOpen as CircuitOpen
from anysaga._errors import ContainerFailed as ContainerFailed
from anysaga._errors import ContextAlreadyMapped as ContextAlreadyMapped
from anysaga._errors import ContextChangedWarning as ContextChangedWarning
from anysaga._errors import ContextConflict as ContextConflict
from anysaga._errors import ContextNotMapped as ContextNotMapped
from anysaga._errors import CorruptRecord as CorruptRecord
from anysaga._errors import DefinitionError as DefinitionError
from anysaga._errors import EventRefused as EventRefused
from anysaga._errors import InvalidArgument as InvalidArgument
from anysaga._errors import MediatorClosed as MediatorClosed
from anysaga._errors import MiddlewareMisused as MiddlewareMisused
from anysaga._errors import MissingDriver as MissingDriver
from anysaga._errors import MissingPackage as MissingPackage
from anysaga._errors import NoCurrentStep as NoCurrentStep
from anysaga._errors import NotDone as NotDone
from anysaga._errors import NotProvided as NotProvided
from anysaga._errors import NotReadable as NotReadable
from anysaga._errors import NotStorable as NotStorable
from anysaga._errors import OperationRefused as OperationRefused
from anysaga._errors import PivotPassed as PivotPassed
from anysaga._errors import PublishFailed as PublishFailed
from anysaga._errors import RunnerMisused as RunnerMisused
from anysaga._errors import SagaAbandoned as SagaAbandoned
from anysaga._errors import SagaAlreadyRunning as SagaAlreadyRunning
from anysaga._errors import SagaCompensated as SagaCompensated
from anysaga._errors import SagaMismatch as SagaMismatch
from anysaga._errors import SagaNotFound as SagaNotFound
from anysaga._errors import SagaOfOtherContext as SagaOfOtherContext
from anysaga._errors import SagaParked as SagaParked
from anysaga._errors import SagaTimeout as SagaTimeout
from anysaga._errors import StaleFence as StaleFence
from anysaga._errors import StepLost as StepLost
from anysaga._errors import StepTimeout as StepTimeout
from anysaga._errors import StorageClosed as StorageClosed
from anysaga._errors import StorageError as StorageError
from anysaga._errors import StorageRefused as StorageRefused
from anysaga._errors import StorageUnavailable as StorageUnavailable
from anysaga._errors import StrayCancellation as StrayCancellation
from anysaga._errors import StrayStop as StrayStop
from anysaga._errors import TransactionMisused as TransactionMisused
from anysaga._errors import UnfinishedSagaWarning as UnfinishedSagaWarning
from anysaga._event_map import EventHandler as EventHandler
from anysaga._event_map import EventMap as EventMap
from anysaga._middleware import Middleware as Middleware
from anysaga._middleware import NextSaga as NextSaga
from anysaga._middleware import NextStep as NextStep
from anysaga._middleware import SagaCall as SagaCall
from anysaga._middleware import StepCall as StepCall
from anysaga._records import Outcome as Outcome
from anysaga._records import SagaState as SagaState
from anysaga._results import SagaResult as SagaResult
from anysaga._results import StepResult as StepResult
from anysaga._retry import Retry as Retry
from anysaga._saga import Saga as Saga
from anysaga._snapshot import secret as secret
from anysaga._step import Step as Step
from anysaga._transaction import SagaTransaction as SagaTransaction
from anysaga.storages import MemoryStorage as MemoryStorage

__version__ = "0.1.0"

for _name, _value in list(globals().items()):
    if not _name.startswith("_"):
        _lazy.show_as_public(__name__, _value)

# What is imported when it is first used, so that a program that only declares and runs sagas starts quickly.
if TYPE_CHECKING:
    from anysaga._blocking import BlockingRunner as BlockingRunner
    from anysaga._blocking import iter_saga as iter_saga
    from anysaga._blocking import run_saga as run_saga
    from anysaga._blocking import run_worker as run_worker
    from anysaga._blocking_mediator import BlockingMediator as BlockingMediator
    from anysaga._blocking_mediator import BlockingStream as BlockingStream
    from anysaga._bootstrap import bootstrap as bootstrap
    from anysaga._breaker import CircuitBreaker as CircuitBreaker
    from anysaga._breaker import CircuitListener as CircuitListener
    from anysaga._circuit import CircuitState as CircuitState
    from anysaga._logging import LoggingMiddleware as LoggingMiddleware
    from anysaga._operations import abandon as abandon
    from anysaga._operations import compensate as compensate
    from anysaga._operations import resolve as resolve
    from anysaga._operations import retry as retry
    from anysaga._recovery import recover as recover
    from anysaga._recovery import recover_saga as recover_saga
    from anysaga._retention import purge as purge
    from anysaga._worker import SagaWorker as SagaWorker
    from anysaga.diagrams import SagaMermaid as SagaMermaid
    from anysaga.mediator import SagaMap as SagaMap
    from anysaga.mediator import SagaMediator as SagaMediator
    from anysaga.mediator import SagaStream as SagaStream
    from anysaga.storages import SQLAlchemyStorage as SQLAlchemyStorage
else:
    __getattr__, __dir__ = _lazy.attach(
        __name__,
        {
            "BlockingMediator": "anysaga._blocking_mediator",
            "BlockingRunner": "anysaga._blocking",
            "BlockingStream": "anysaga._blocking_mediator",
            "CircuitBreaker": "anysaga._breaker",
            "CircuitListener": "anysaga._breaker",
            "CircuitState": "anysaga._circuit",
            "LoggingMiddleware": "anysaga._logging",
            "SQLAlchemyStorage": "anysaga.storages",
            "SagaMap": "anysaga.mediator",
            "SagaMediator": "anysaga.mediator",
            "SagaMermaid": "anysaga.diagrams",
            "SagaStream": "anysaga.mediator",
            "SagaWorker": "anysaga._worker",
            "abandon": "anysaga._operations",
            "bootstrap": "anysaga._bootstrap",
            "compensate": "anysaga._operations",
            "iter_saga": "anysaga._blocking",
            "purge": "anysaga._retention",
            "recover": "anysaga._recovery",
            "recover_saga": "anysaga._recovery",
            "resolve": "anysaga._operations",
            "retry": "anysaga._operations",
            "run_saga": "anysaga._blocking",
            "run_worker": "anysaga._blocking",
        },
        needs={"SQLAlchemyStorage": "sqlalchemy"},
    )
