"""What the branches of one saga share while one owner drives it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from anyio import CancelScope
from attrs import define, field, frozen

from anysaga._errors import SagaTimeout
from anysaga._nodes import PRIMARY, ROOT, Leaf, is_below
from anysaga._notes import add_context
from anysaga._results import StepResult
from anysaga._threads import ThreadRun


@frozen
class Parking:
    """A saga is to be parked at a step. `thread` is that of the step, if it is still running."""

    path: str
    reason: str
    thread: ThreadRun | None = None


@define(eq=False, repr=False)
class Run:
    """The results and the errors of a saga's steps, and what is going on at the moment.

    `fresh` are results that the caller has not seen yet. `in_call` has the scopes of calls whose end is not noted, by
    the path of the step; None for a call that nothing can cut short. `forks` are the scopes of Parallels that have
    begun, by path. `parks` are reasons to park the saga, once nothing of it runs any more. `waiting` counts what waits
    for the turn of an attempt. `limit` is the saga's time limit in seconds, as it was when the saga began. A caller who
    does not look at single steps is not `watched`, or has a function `stops`, which is asked after each step whether it
    wants to look. `drains` is set for those who drive sagas of others, such as workers and mediators: a cancellation
    then undoes nothing. `spares` has it wait for the running act first, for the saga's `grace`.
    """

    # Dicts and lists, not sets and deques, which are several times as large while they hold one thing or nothing.
    results: dict[str, StepResult[Any]] = field(factory=dict)
    fresh: list[StepResult[Any]] = field(factory=list)
    in_call: dict[str, CancelScope | None] = field(factory=dict)
    forks: dict[str, CancelScope] = field(factory=dict)
    parks: list[Parking] = field(factory=list)
    waiting: int = 0
    limit: float = 0.0
    drains: bool = False
    spares: bool = False
    watched: bool = True
    stops: Callable[[], bool] | None = None
    _errors: dict[str, BaseException] = field(factory=dict)
    _caught: list[str] = field(factory=list)

    @property
    def pauses(self) -> bool:
        """Whether the caller is to see a result before anything else begins. Once `stops` says so, it is always so."""
        if not self.fresh:
            return False
        if self.stops is not None and self.stops():
            self.stops = None
        return self.stops is None

    def next_result(self) -> StepResult[Any] | None:
        """A result that the caller has not seen, the oldest first."""
        return self.fresh.pop(0) if self.fresh else None

    def stop_calls(self) -> None:
        """Cancel all calls: the claim is lost."""
        for scope in list(self.in_call.values()):
            if scope is not None:
                scope.cancel()

    def stop_forks(self, path: str) -> None:
        """Cancel what runs in parallel at `path` or below."""
        for fork, scope in self.forks.items():
            if is_below(fork, path):
                scope.cancel()

    def done(self, leaf: Leaf, result: StepResult[Any]) -> None:
        """A step is done, whatever became of its attempts before."""
        self._errors.pop(leaf.path, None)
        self.results[leaf.path] = result
        if self.watched:
            self.fresh.append(result)

    def failed(self, leaf: Leaf, error: BaseException) -> None:
        """A step failed. An error of a fallback shows that of its primary as its context."""
        for above in reversed(leaf.above):
            earlier = [] if above.parallel or above.falls_back else self._errors_below(f"{above.path}/{PRIMARY}")
            if earlier:
                add_context(error, _combined(earlier))
                break
        self._errors[leaf.path] = error

    def completed(self) -> None:
        """The saga is completed, and nobody asks for errors any more, whose tracebacks hold much, this run included."""
        self._errors.clear()

    def expired(self, error: SagaTimeout) -> None:
        """The saga ran out of its time."""
        self._errors[ROOT] = error

    def goes_back(self, path: str) -> None:
        """Forget the results of a primary that goes back; its errors are no longer the saga's."""
        if path == ROOT:
            return
        self._caught.append(path)
        for below in [each for each in self.results if is_below(each, path)]:
            result = self.results.pop(below)
            if result in self.fresh:
                self.fresh.remove(result)

    def take_error(self, parked: str = ROOT) -> BaseException | None:
        """The `error`, for its caller; nobody asks again, and its traceback holds this run.

        Where a Fallback caught all of them, it is that of the step where the saga is `parked`, being undone.
        """
        error = self.error or self._errors.get(parked)
        self._errors.clear()
        return error

    @property
    def error(self) -> BaseException | None:
        """What made the saga go back, as the caller will see it: the error of a step, or a group of several."""
        caught = {each for path in self._caught for each in self._errors if is_below(each, path)}
        errors = [error for path, error in self._errors.items() if path not in caught]
        for error in errors:
            if isinstance(error, SagaTimeout):
                return error  # every branch has one of its own
        return _combined(errors) if errors else None

    def _errors_below(self, path: str) -> list[BaseException]:
        return [error for each, error in self._errors.items() if is_below(each, path)]


def _combined(errors: list[BaseException]) -> BaseException:
    if len(errors) == 1:
        return errors[0]
    return BaseExceptionGroup("several steps of a Parallel failed", errors)
