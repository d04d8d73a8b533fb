"""Finishing what was interrupted: sagas whose owner is gone."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from typing import Any, TypeVar

from anyio import CancelScope, CapacityLimiter, create_task_group
from anyio.lowlevel import checkpoint
from attrs import define, field

from anysaga._arguments import check_counts
from anysaga._cancellations import asks_to_end, refusing_strays
from anysaga._definition import Definition
from anysaga._driver import Driver
from anysaga._errors import (
    InvalidArgument,
    NotReadable,
    OperationRefused,
    SagaAlreadyRunning,
    SagaMismatch,
    SagaNotFound,
    SagaParked,
    StaleFence,
    StorageError,
)
from anysaga._ids import checked_id
from anysaga._middleware import Middleware
from anysaga._opening import Opened, adopt, ended, park_misfit, unread_result
from anysaga._records import Claim, EntryKind, SagaRecord, SagaState
from anysaga._results import SagaResult
from anysaga._saga import Saga, checked_storage, made_sagas
from anysaga._saga_scope import SagaScope
from anysaga._shield import give_back
from anysaga._submitting import refuse_later_version
from anysaga._wiring import GivenContainer, container_of
from anysaga.abc import Container, Storage

ContextT = TypeVar("ContextT")

logger = logging.getLogger("anysaga.recovery")

RETRY_AFTER = 5.0
"""Seconds after which a saga that could not even be opened (a container that fails) is due again."""


async def recover_saga(
    saga: Saga[ContextT] | type[Saga[ContextT]],
    saga_id: str | uuid.UUID,
    *,
    storage: Storage | None = None,
    container: GivenContainer | None = None,
) -> SagaResult[ContextT]:
    """Finish one interrupted saga, forwards or backwards, wherever it stood. Returns its result.

    COMPENSATED and PARKED are results here, since the original exception is gone with its process; so are sagas that
    had ended before. The stored context is used. Being cancelled stops between steps and gives the saga back; it
    undoes nothing.

    `storage` and `container` default to those of `saga`; a class has none, so that it needs a `storage`. Raises
    `SagaNotFound`; `SagaAlreadyRunning` if its owner is alive; `SagaMismatch` if it is another saga, or a later version
    of the code began it; `InvalidArgument` without a storage; `StorageError`.
    """
    its_own = saga.storage if isinstance(saga, Saga) else None
    recovery = Recovery.of([saga], its_own if storage is None else storage, container)
    identity = checked_id(saga_id)
    record = await recovery.storage.load(identity)
    if not record.summary.state.is_end:
        try:
            claim = await recovery.storage.claim(identity)
        except OperationRefused:  # it ended meanwhile
            record = await recovery.storage.load(identity)  # noqa: ASYNC120 - a cancellation may hide the refusal
        else:
            return await recovery.finish(claim)
    return recovery.stored(record)


async def recover(
    sagas: Iterable[Saga[Any] | type[Saga[Any]]],
    *,
    storage: Storage,
    container: GivenContainer | None = None,
    limit: int = 100,
    concurrency: int = 10,
) -> list[SagaResult[Any]]:
    """Finish all interrupted sagas of these definitions whose owner is gone and that are due. Returns their results.

    `container` makes the steps of all of them; without it each saga has its own.

    At most `limit` sagas in all, `concurrency` at once. A saga that cannot be decoded, or does not fit its definition,
    is parked; one that fails in another way is logged and tried again by a later call. Neither stops the others. Call
    it at start-up and now and then. Raises `StorageError` if the store cannot hand out sagas, once those that it had
    handed out are finished; `InvalidArgument` for two different sagas of one name and version.

        for result in await recover([OrderSaga, RefundSaga], storage=storage, container=services):
            print(result.saga_id, result.state)
    """
    recovery = Recovery.of(sagas, storage, container)
    check_counts(limit=limit, concurrency=concurrency)
    results: list[SagaResult[Any]] = []
    failed: Exception | None = None
    limiter = CapacityLimiter(concurrency)
    async with create_task_group() as group:
        while limit > 0:
            async with limiter:
                free = 1 + int(limiter.available_tokens)
            try:
                claims = await recovery.storage.claim_due(recovery.names, min(limit, free))
            except Exception as error:  # noqa: BLE001 - a task group would wrap it; the claimed sagas go on
                failed = error
                break
            if not claims:
                break
            limit -= len(claims)
            for claim in claims:
                group.start_soon(_collect, recovery, claim, limiter, results)
            await checkpoint()
    if failed is not None:
        raise failed
    return results


async def _collect(recovery: Recovery, claim: Claim, limiter: CapacityLimiter, results: list[SagaResult[Any]]) -> None:
    result = await recovery.finish_or_log(claim, limiter)
    if result is not None:
        results.append(result)


@define(eq=False, repr=False)
class Recovery:
    """Finishes claimed sagas of some definitions.

    Once `stops` says so, a saga is given back between two steps.
    """

    storage: Storage
    containers: dict[Definition, Container]
    definitions: list[Definition]
    middlewares: dict[Definition, tuple[Middleware, ...]]
    stops: Callable[[], bool] = lambda: False
    _driving: dict[Driver, CancelScope] = field(factory=dict, init=False)

    @classmethod
    def of(
        cls, sagas: Iterable[Saga[Any] | type[Saga[Any]]], storage: Storage | None, container: GivenContainer | None
    ) -> Recovery:
        made = made_sagas(sagas)
        if storage is None:  # those of the sagas may be new ones in memory, where nothing is ever found
            raise InvalidArgument("storage", storage, "give the Storage that has the sagas")
        shared = None if container is None else container_of(container)
        return cls(
            storage=checked_storage(storage),
            containers={saga.definition: saga.container if shared is None else shared for saga in made},
            definitions=[saga.definition for saga in made],
            middlewares={saga.definition: saga._middlewares for saga in made},
        )

    @property
    def names(self) -> list[str]:
        """What these sagas are called in the store."""
        return sorted({definition.name for definition in self.definitions})

    def stop_waiting(self) -> None:
        """Give back what only waits for the turn of a retry."""
        for driver, scope in self._driving.items():
            if driver.only_waits:
                scope.cancel()

    async def finish_or_log(
        self, claim: Claim, limiter: AbstractAsyncContextManager[object] | None = None
    ) -> SagaResult[Any] | None:
        """The same as `finish`, for sagas that must not stop each other: what it raises is logged. None then.

        To be called in a task of its own, which is cancelled by scopes alone.
        """
        saga_id = claim.record.summary.saga_id
        try:
            with refusing_strays(f"saga {claim.record.summary.name!r} ({saga_id})", ours=True):
                return await self.finish(claim, limiter)
        except (StaleFence, SagaAlreadyRunning, SagaNotFound) as error:
            logger.info("saga %s is somebody else's now: %s", saga_id, error)
        except SagaMismatch as error:
            logger.warning("saga %s is left to others: %s", saga_id, error.difference)
        except StorageError as error:
            logger.warning("saga %s was not recovered: %s", saga_id, error)
        except BaseException as error:  # noqa: ASYNC103 - raised where it must be
            if asks_to_end(error):
                raise
            logger.exception("saga %s was not recovered; it is tried again later", saga_id)
        return None

    async def finish(self, claim: Claim, limiter: AbstractAsyncContextManager[object] | None = None) -> SagaResult[Any]:
        """Drive one claimed saga to its end, once the limiter lets it; cancelled before, the claim is given back."""
        adopted = False
        try:
            async with limiter or nullcontext():
                definition = self._definition(claim.record)
                refuse_later_version(definition, claim.record)
                async with self._scope(definition, claim.record) as scope:
                    # Before its steps are made: that may be what fails, or what kills the process.
                    await park_misfit(definition, self.storage, claim)
                    opened = await adopt(definition, self.storage, await scope.steps(), claim, drains=True, spares=True)
                    adopted = True
                    scope.result = opened.result
                    await self._drive(opened)
                    return opened.result()
        except SagaParked as parked:
            return unread_result(parked.saga_id, parked.reason)
        except BaseException as error:
            if not adopted:
                await self._give_back(claim, error)  # noqa: ASYNC102 - one write, shielded
            raise

    def _scope(self, definition: Definition, record: SagaRecord) -> SagaScope:
        middlewares = self.middlewares[definition]
        notes = tuple(entry.error or "" for entry in record.entries if entry.kind is EntryKind.NOTE)
        saga_id = record.summary.saga_id
        container = self.containers[definition]
        scope = SagaScope(definition, container, saga_id, middlewares, recovers=True, notes=notes)
        scope.stay_in_one_task()
        return scope

    async def _give_back(self, claim: Claim, error: BaseException) -> None:
        """Nothing was driven: somebody else may, later if the fault may last."""
        wait = 0.0 if asks_to_end(error) else RETRY_AFTER
        with suppress(StorageError):  # of which the storage takes care itself
            await give_back(self.storage, claim, wait=wait)

    def stored(self, record: SagaRecord) -> SagaResult[Any]:
        """The result of a saga that ended before."""
        summary = record.summary
        definition = self._definition(record)
        difference = definition.difference(summary.name, summary.version, record.outline)
        problem = difference or record.problem
        result: SagaResult[Any] | None = None
        if problem is None:
            try:
                result = ended(definition, record).result()
            except NotReadable as error:
                problem = str(error)
        is_parked = summary.state is SagaState.PARKED  # perhaps by the store, which enters nothing in a log
        if is_parked and (result is None or result.state is not SagaState.PARKED):
            return unread_result(summary.saga_id, summary.note or "")
        if result is None:
            raise SagaMismatch(summary.saga_id, problem or "")
        return result

    def _definition(self, record: SagaRecord) -> Definition:
        """The definition of this name, of the same version if there are several, else of the latest."""
        summary = record.summary
        named = [definition for definition in self.definitions if definition.name == summary.name]
        if not named:
            known = ", ".join(repr(name) for name in self.names)
            raise SagaMismatch(summary.saga_id, f"it belongs to a saga {summary.name!r}, not {known}")
        same = (one for one in named if one.version == summary.version)
        return next(same, max(named, key=lambda one: one.version))

    async def _drive(self, opened: Opened) -> None:
        driver = opened.driver
        assert driver is not None  # noqa: S101 - it was claimed
        with CancelScope() as scope:
            self._driving[driver] = scope
            try:
                more: object = True
                while more is not None:
                    if self.stops():  # asked first, too: it may have been claimed while its worker was told to stop
                        await driver.suspend()
                    more = await driver.advance()
            except BaseException as error:  # noqa: ASYNC103 - the result says it
                if asks_to_end(error) or not driver.has_ended:
                    raise
            finally:
                del self._driving[driver]
