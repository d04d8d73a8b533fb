"""How a saga enters a store, and whether one that is there already is the same."""

from __future__ import annotations

from typing import Any

from anyio import CancelScope

from anysaga._definition import Definition
from anysaga._errors import NotReadable, SagaMismatch
from anysaga._live_context import LiveContext
from anysaga._records import Claim, Entry, NewSaga, SagaRecord, SagaState
from anysaga._shield import give_back
from anysaga._snapshot import digest
from anysaga.abc import Storage


async def submit_saga(definition: Definition, storage: Storage, context: Any, saga_id: str) -> None:
    """Store a saga that nobody drives yet: whoever looks for due sagas finds it.

    Does nothing if it was submitted or started before. Raises `SagaMismatch` if that was with another context.
    """
    text = LiveContext(definition, context).encode()
    new = new_saga(definition, saga_id, text, SagaState.PENDING)
    claim: Claim | None = None
    with CancelScope(shield=True):
        claim = await storage.create(new)
    if claim is not None:
        await give_back(storage, claim)
        return
    refuse_other_payload(definition, await storage.load(saga_id), context)


def new_saga(definition: Definition, saga_id: str, text: str, state: SagaState, *entries: Entry) -> NewSaga:
    """What is stored of a saga when it begins, with its context as text."""
    return NewSaga(
        saga_id,
        definition.name,
        definition.version,
        definition.outline,
        digest(text),
        text,
        state,
        definition.timeout,
        entries,
    )


def refuse_other_payload(definition: Definition, record: SagaRecord, context: Any) -> None:
    """Raise `SagaMismatch` if what is stored was started by another saga, or with another context than this one."""
    summary = record.summary
    if summary.name != definition.name:
        raise SagaMismatch(summary.saga_id, f"it belongs to a saga {summary.name!r}, not {definition.name!r}")
    if context is None or summary.version != definition.version:
        return
    text = definition.codec.encode(context, where=definition.context_name)
    if digest(text) != record.digest and definition.codec.rewritten(record.context) != text:
        raise SagaMismatch(summary.saga_id, _why_other(definition, record))


def refuse_later_version(definition: Definition, record: SagaRecord) -> None:
    """Raise `SagaMismatch` for what code of a later version began: while a fleet is brought forward, others have it."""
    begun, known = record.summary.version, definition.version
    if begun > known:
        problem = f"it was begun by version {begun}, and this code has version {known}: it is left to who has that one"
        raise SagaMismatch(record.summary.saga_id, problem)


def _why_other(definition: Definition, record: SagaRecord) -> str:
    try:
        definition.codec.decode(record.context, where=definition.context_name)
    except NotReadable as error:
        return f"what it was started with does not fit the code: {error}"
    return f"a saga {definition.name!r} was started under it with another context"
