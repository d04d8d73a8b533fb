"""The base of all steps: what a user writes."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Generic

from typing_extensions import TypeVar

from anysaga._records import Outcome
from anysaga._retry import Retry

ContextT_contra = TypeVar("ContextT_contra", contravariant=True)
ResponseT_co = TypeVar("ResponseT_co", covariant=True, default=None)


class Step(Generic[ContextT_contra, ResponseT_co]):
    """One step of a saga: `act`, and `compensate` that undoes it.

    ``Step[Order, Reservation]`` works on an `Order` and answers a `Reservation`; ``Step[Order]`` answers None. The
    answer must be a value that can be stored. All three methods may be ``async def`` or plain; a plain one runs in a
    worker thread.

    Every step either defines `compensate`, or says ``pivot = True`` (a point of no return: never undone, and after it
    the saga only goes forward) or ``read_only = True`` (it has no effect to undo).

    Class attributes:

    - `name`: in the log and in messages; the class's name by default.
    - `timeout`: seconds for one call of act, compensate or probe.
    - `retry`: another attempt of `act` after a failure; none by default.
    - `compensate_retry`: the same for `compensate`; the saga's by default (3 attempts, 1 s, doubled).
    - `atomic`: any exception that `act` raises by itself means that it had no effect.
    - `not_done_on`: exception types that mean so.

    Steps hold no state of their own: one object may serve many sagas at once. What a step needs arrives in
    `__init__`, from the container.

        class ReserveInventory(Step[Order, Reservation]):
            timeout = 5.0

            def __init__(self, inventory: InventoryService) -> None:
                self.inventory = inventory

            async def act(self, order: Order) -> Reservation:
                return await self.inventory.reserve(order.order_id, order.items)

            async def compensate(self, order: Order) -> None:
                await self.inventory.release(order.order_id)
    """

    name: str = ""
    timeout: float | None = None
    retry: Retry | None = None
    compensate_retry: Retry | None = None
    atomic: bool = False
    not_done_on: tuple[type[BaseException], ...] = ()
    pivot: bool = False
    read_only: bool = False

    def act(self, context: ContextT_contra, /) -> ResponseT_co | Awaitable[ResponseT_co]:
        """Do the work.

        Raise `NotDone` (or a type in `not_done_on`) where it is certain that there was no effect; any other exception
        leaves the outcome unknown, and the step is undone too. Use ``current_step().key`` as the idempotency key.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define act")

    def compensate(self, context: ContextT_contra, /) -> Awaitable[None] | None:
        """Undo the work, or make sure that there is none.

        May be called for an act whose outcome is unknown (see ``current_step().outcome``), and again after a failure.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define compensate")

    def probe(self, context: ContextT_contra, /) -> Outcome | Awaitable[Outcome]:
        """Ask the service whether an act in doubt took effect.

        Answer NOT_DONE only if the key can no longer take effect; UNKNOWN where nobody can say.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define probe")


def step_type(step: object) -> type[Step[Any, Any]]:
    """The class of a declared step, which may be a class or an instance."""
    return step if isinstance(step, type) else type(step)  # pyright: ignore[reportReturnType]  # is a step


def defines(step: type[Step[Any, Any]], method: str) -> bool:
    """Whether this step class has its own `method` ("act", "compensate" or "probe")."""
    return getattr(step, method) is not getattr(Step, method)
