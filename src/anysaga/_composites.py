"""Steps made of steps: what a user writes to fall back, and to do several things at once."""

from __future__ import annotations

from typing import Any, TypeAlias, Union

from attrs import frozen

from anysaga._guard import Breaker
from anysaga._step import Step

Branch: TypeAlias = Union[type[Step[Any, Any]], Step[Any, Any], "Fallback", "Parallel"]
"""What stands in a saga's `steps`, and inside a `Fallback` or a `Parallel`."""


@frozen(eq=False)
class Fallback:
    """A step, and what takes its place when it fails.

    The context is remembered when the primary `step` begins. If the primary fails for good, it is undone (unless it
    certainly had no effect), the context is put back in place, and `fallback` acts. Whichever did the work is the one
    that is undone later, also after a crash.

    `failure_exceptions` are the types that fall back, subclasses included; none means any `Exception`. Other errors
    make the saga go back. A step that ran out of its time counts as `TimeoutError`, one that was lost with its process
    as `StepLost`; a cancellation and the saga's own time limit never fall back. `circuit_breaker` is asked before each
    attempt of the primary, and told how it ended; while it is open the fallback acts at once.

    Both may be steps, other `Fallback`s or `Parallel`s, but no pivots. Checked when the saga is declared.

        steps = [Fallback(ReserveInventory, ReserveElsewhere, circuit_breaker=CircuitBreaker(fail_max=2))]
    """

    step: Branch
    fallback: Branch
    failure_exceptions: tuple[type[BaseException], ...] = ()
    circuit_breaker: Breaker | None = None


@frozen(eq=False, init=False)
class Parallel:
    """Steps that act at the same time, in one task group.

    Each acts on a copy of the context; when it is done, the top-level fields that it changed are merged into the
    context. Two that change the same field are refused with `ContextConflict`, and the saga goes back. The first
    failure cancels the others and awaits them; then all are undone, at the same time too, before whatever came before
    the group. Several failures are raised as an `ExceptionGroup` of the steps' own errors.

    `limit` is how many of them act at once; all by default. Results come in the order of completion.

        steps = [Parallel(BookHotel, BookFlight, BookCar, limit=2), SendConfirmation]
    """

    steps: tuple[Branch, ...]
    limit: int | None = None

    def __init__(self, *steps: Branch, limit: int | None = None) -> None:
        self.__attrs_init__(steps, limit)  # pyright: ignore[reportAttributeAccessIssue]  # made by attrs
