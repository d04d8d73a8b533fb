"""A middleware that writes to the standard log."""

from __future__ import annotations

import logging
from time import perf_counter
from typing import Any

from anysaga._middleware import Middleware, NextSaga, NextStep, SagaCall, StepCall
from anysaga._records import SagaState
from anysaga._results import SagaResult


class LoggingMiddleware(Middleware):
    """Writes one line when a saga begins and ends, and one for each call of a step.

    Failures, and sagas that end other than completed, are warnings; the rest has the given `level`. Of contexts,
    responses and errors nothing is written but the types of errors, since any of them may hold what is secret. Each
    record has the attributes `saga_id` and `saga`, and `step`, for formatters.

        OrderSaga(storage=storage, middlewares=[LoggingMiddleware()])
    """

    def __init__(self, logger: logging.Logger | str = "anysaga.sagas", *, level: int = logging.INFO) -> None:
        self._logger = logging.getLogger(logger) if isinstance(logger, str) else logger
        self._level = level

    async def saga(self, call: SagaCall, call_next: NextSaga) -> SagaResult[Any]:
        """Write when it begins and how it ended."""
        extra = {"saga_id": call.saga_id, "saga": call.saga}
        name = f"saga {call.saga} ({call.saga_id})"
        began = perf_counter()
        self._logger.log(self._level, "%s %s", name, "is recovered" if call.recovers else "begins", extra=extra)
        try:
            result = await call_next()
        except BaseException as error:
            self._failed(name, began, error, extra)
            raise
        level = self._level if result.state in (SagaState.COMPLETED, SagaState.RUNNING) else logging.WARNING
        self._logger.log(level, "%s is %s after %.3f s", name, result.state, perf_counter() - began, extra=extra)
        return result

    async def step(self, call: StepCall, call_next: NextStep) -> Any:
        """Write how it ended."""
        extra = {"saga_id": call.saga_id, "saga": call.saga, "step": call.step}
        name = f"{call.verb} of {call.step}, attempt {call.attempt}, in saga {call.saga} ({call.saga_id})"
        began = perf_counter()
        try:
            value = await call_next()
        except BaseException as error:
            self._failed(name, began, error, extra)
            raise
        self._logger.log(self._level, "%s took %.3f s", name, perf_counter() - began, extra=extra)
        return value

    def _failed(self, name: str, began: float, error: BaseException, extra: dict[str, str]) -> None:
        seconds = perf_counter() - began
        self._logger.warning("%s failed after %.3f s: %s", name, seconds, type(error).__name__, extra=extra)
