"""Every error that a user of anysaga can meet, one class a situation.

Ground floor: imports nothing of ours. Each class is an attrs exception: its fields are its `args`, so errors survive
pickling, and the sentence is made when it is read. Their repr is that of any exception: generating others would cost
each import. A sentence names the saga, the step and the way out.
"""

from __future__ import annotations

from ._declaring import ContextAlreadyMapped as ContextAlreadyMapped
from ._declaring import ContextNotMapped as ContextNotMapped
from ._declaring import DefinitionError as DefinitionError
from ._declaring import InvalidArgument as InvalidArgument
from ._declaring import MissingPackage as MissingPackage
from ._declaring import SagaOfOtherContext as SagaOfOtherContext
from ._events import EventRefused as EventRefused
from ._events import NoCurrentMessage as NoCurrentMessage
from ._events import PublishFailed as PublishFailed
from ._root import AnysagaError as AnysagaError
from ._sagas import BlockingCallInLoop as BlockingCallInLoop
from ._sagas import ContextChangedWarning as ContextChangedWarning
from ._sagas import MediatorClosed as MediatorClosed
from ._sagas import OperationRefused as OperationRefused
from ._sagas import PivotPassed as PivotPassed
from ._sagas import RunnerMisused as RunnerMisused
from ._sagas import SagaAbandoned as SagaAbandoned
from ._sagas import SagaAlreadyRunning as SagaAlreadyRunning
from ._sagas import SagaCompensated as SagaCompensated
from ._sagas import SagaMismatch as SagaMismatch
from ._sagas import SagaNotFound as SagaNotFound
from ._sagas import SagaParked as SagaParked
from ._sagas import SagaTimeout as SagaTimeout
from ._sagas import StaleFence as StaleFence
from ._sagas import TransactionMisused as TransactionMisused
from ._sagas import UnfinishedSagaWarning as UnfinishedSagaWarning
from ._steps import CallSkipped as CallSkipped
from ._steps import CheckpointRefused as CheckpointRefused
from ._steps import CircuitOpen as CircuitOpen
from ._steps import ContainerFailed as ContainerFailed
from ._steps import ContextConflict as ContextConflict
from ._steps import MiddlewareMisused as MiddlewareMisused
from ._steps import NoCurrentStep as NoCurrentStep
from ._steps import NotDone as NotDone
from ._steps import NotProvided as NotProvided
from ._steps import StepLost as StepLost
from ._steps import StepTimeout as StepTimeout
from ._steps import StrayCancellation as StrayCancellation
from ._steps import StrayStop as StrayStop
from ._storage import CorruptRecord as CorruptRecord
from ._storage import MissingDriver as MissingDriver
from ._storage import NotReadable as NotReadable
from ._storage import NotStorable as NotStorable
from ._storage import StorageClosed as StorageClosed
from ._storage import StorageError as StorageError
from ._storage import StorageRefused as StorageRefused
from ._storage import StorageUnavailable as StorageUnavailable
