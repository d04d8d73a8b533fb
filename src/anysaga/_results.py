"""What a caller gets back: the result of a step, and of a whole saga."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Generic, TypeVar

from anysaga._records import SagaState, frozen
from anysaga._step import Step

ContextT = TypeVar("ContextT")
ResponseT = TypeVar("ResponseT")
ResponseT_co = TypeVar("ResponseT_co", covariant=True)


@frozen
class StepResult(Generic[ResponseT_co]):
    """One step that is done.

    `attempts` counts the acts that began. `duration` is that of the last one, in seconds. `source` tells which branch
    did the work; a plain step is its own.
    """

    saga_id: str
    step_name: str
    step_type: type[Step[Any, Any]]
    response: ResponseT_co
    attempts: int
    duration: float
    source: str = "step"


@frozen
class SagaResult(Generic[ContextT]):
    """A saga as it stands, most often at its end: its state, its context, and the results of the steps that are done.

    Look a result up by step class, typed: ``result[ReserveInventory].response``. `reason` says why a saga was parked,
    compensated or abandoned; else it is None.
    """

    saga_id: str
    state: SagaState
    context: ContextT
    steps: tuple[StepResult[Any], ...]
    reason: str | None = None

    def __getitem__(self, step: type[Step[Any, ResponseT]]) -> StepResult[ResponseT]:
        """The result of this step. Raises `KeyError` if it is not done."""
        for result in self.steps:
            if result.step_type is step:
                return result
        raise KeyError(getattr(step, "__qualname__", step))

    def __contains__(self, step: object) -> bool:
        return any(result.step_type is step for result in self.steps)

    def __iter__(self) -> Iterator[StepResult[Any]]:
        return iter(self.steps)
