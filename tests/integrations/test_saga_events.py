"""What somebody who watches a saga is told, and when: without a server, in a time that jumps."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from anyio import current_time
from attrs import define, field
from fastapi import Request
from journeys import Journey, Leg, saga_of
from starlette.background import BackgroundTask
from virtual_time import in_jumping_time

from anysaga import (
    InvalidArgument,
    MemoryStorage,
    Middleware,
    NextSaga,
    NotStorable,
    Saga,
    SagaCall,
    SagaMap,
    SagaMediator,
    SagaResult,
    Step,
    StorageUnavailable,
)
from anysaga.abc import Claim, SagaRecord, Storage
from anysaga.integrations import SagaEvents, saga_events

pytestmark = pytest.mark.anyio
HOUR = 3600.0


def mediator_of(storage: Storage, *steps: Step[Any, Any], **options: Any) -> SagaMediator:
    sagas = SagaMap()
    sagas.bind(Journey, saga_of(None, *steps))
    return SagaMediator(sagas, storage=storage, **options)


@define(eq=False)
class Client:
    """Who is answered: what was told, and after how many seconds. It stays until `goes`."""

    text: str = ""
    told_at: list[tuple[float, str]] = field(factory=list)
    goes: anyio.Event = field(factory=anyio.Event)
    headers: dict[bytes, bytes] = field(factory=dict)
    _began: float = field(factory=current_time)
    _told: anyio.Event = field(factory=anyio.Event)

    async def get(self, answer: Any) -> None:
        await answer({"type": "http"}, self._receive, self._send)

    async def wait_for(self, words: str) -> None:
        while words not in self.text:
            self._told = anyio.Event()
            await self._told.wait()

    @property
    def words(self) -> list[str]:
        lines = [line.removeprefix("data: ") for line in self.text.splitlines() if line.startswith("data: ")]
        return [str(event.get("step", event["type"])) for event in map(json.loads, lines)]

    async def _receive(self) -> dict[str, Any]:
        await self.goes.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        self.headers.update(message.get("headers", ()))
        text = message.get("body", b"").decode()
        if text:
            self.told_at.append((round(current_time() - self._began, 3), text))
        self.text += text
        self._told.set()


@asynccontextmanager
async def watching_what_another_one_drives(
    storage: MemoryStorage, client: Client, did: list[str]
) -> AsyncIterator[tuple[MemoryStorage, Claim]]:
    """Have `client` watch a saga that somebody else holds, until it is told all. Gives that one's store and claim."""
    mediator, other = mediator_of(storage, Leg("a", did)), storage.twin()
    await mediator_of(other, Leg("a", did)).submit(Journey(), saga_id="j")
    claim = await other.claim("j")
    async with mediator, anyio.create_task_group() as group:
        group.start_soon(client.get, await saga_events(mediator, Journey(), saga_id="j"))
        await anyio.wait_all_tasks_blocked()
        yield other, claim


class Around(Middleware):
    """Stands around sagas: counts them, and has `ends` waited for behind them."""

    def __init__(self) -> None:
        self.began = self.ended = 0
        self.ends = anyio.Event()

    async def saga(self, call: SagaCall, call_next: NextSaga) -> SagaResult[Any]:
        self.began += 1
        result = await call_next()
        await self.ends.wait()
        self.ended += 1
        return result


class Refuses(Middleware):
    async def saga(self, call: SagaCall, call_next: NextSaga) -> SagaResult[Any]:
        raise PermissionError("not today")


def back_from(number: int) -> Request:
    """A request of somebody who has seen all up to an event."""
    return Request({"type": "http", "headers": [(b"last-event-id", str(number).encode())]})


@in_jumping_time
async def test_the_start_is_told_at_once(did: list[str]) -> None:
    """And not with the first step that ends, or at the next look at the store."""
    ends, client = anyio.Event(), Client()

    async def act(journey: Journey) -> None:
        await ends.wait()

    async with mediator_of(MemoryStorage(), Leg("a", did, act=act)) as mediator, anyio.create_task_group() as group:
        group.start_soon(client.get, await saga_events(mediator, Journey(), poll=HOUR, keep_alive=HOUR))
        await client.wait_for("start")
        ends.set()
    assert client.told_at[0][0] == 0


async def test_who_has_seen_the_start_of_a_saga_that_was_never_stored_starts_it_and_is_told_the_rest(
    did: list[str],
) -> None:
    client = Client()
    async with mediator_of(MemoryStorage(), Leg("a", did)) as mediator:
        await client.get(await saga_events(mediator, Journey(), saga_id="j", request=back_from(0)))
    assert client.words == ["a", "end"]


async def test_who_names_neither_a_saga_nor_a_context_is_refused(did: list[str]) -> None:
    with pytest.raises(InvalidArgument, match="give the saga_id of a stored saga, or a context"):
        await saga_events(mediator_of(MemoryStorage(), Leg("a", did)))


async def test_a_context_that_cannot_be_stored_is_refused_before_the_answer_begins(did: list[str]) -> None:
    with pytest.raises(NotStorable):
        await saga_events(mediator_of(MemoryStorage(), Leg("a", did)), Journey(["\ud800"]))


@pytest.mark.parametrize("option", ["poll", "keep_alive"])
async def test_seconds_that_never_pass_are_refused(did: list[str], option: str) -> None:
    with pytest.raises(InvalidArgument, match=option):
        SagaEvents(mediator_of(MemoryStorage(), Leg("a", did)), "j", **{option: 0.0})  # type: ignore[arg-type]


@in_jumping_time
@pytest.mark.parametrize("drives", [True, False])
async def test_the_store_is_looked_at_each_poll_and_a_comment_sent_after_each_silence(
    did: list[str], drives: bool
) -> None:
    """For who only watches, and for whose request drives the saga."""
    looks: list[float] = []
    client = Client()

    class Looked(MemoryStorage):
        async def load(self, saga_id: str) -> SagaRecord:
            looks.append(current_time())
            if len(looks) == 6:
                client.goes.set()
            return await super().load(saga_id)

    async def act(journey: Journey) -> None:
        await client.goes.wait()

    mediator = mediator_of(Looked(), Leg("a", did, act=act))
    await mediator.submit(Journey(), saga_id="j")
    async with mediator:
        answer = await saga_events(mediator, Journey() if drives else None, saga_id="j", poll=7.0, keep_alive=10.0)
        began = current_time()
        del looks[:]
        await client.get(answer)
    assert sorted({round(look - began) for look in looks}) == [0, 7, 14, 21, 28]
    assert [at for at, text in client.told_at if text.startswith(":")] == [14.0, 28.0]
    assert client.words == ["start"]


@in_jumping_time
@pytest.mark.parametrize("watcher_goes", [True, False])
async def test_what_stands_around_a_saga_comes_to_its_end_though_all_is_told(
    did: list[str], watcher_goes: bool
) -> None:
    """Whose client goes then has seen all, and is none that goes away in the middle."""
    around, client = Around(), Client()
    mediator = mediator_of(MemoryStorage(), Leg("a", did), middlewares=[around], on_disconnect="compensate")
    async with mediator, anyio.create_task_group() as group:
        group.start_soon(client.get, await saga_events(mediator, Journey()))
        await client.wait_for("end")
        if watcher_goes:
            client.goes.set()
        await anyio.wait_all_tasks_blocked()
        around.ends.set()
    assert around.ended == 1


async def test_a_saga_that_has_ended_is_told_and_not_begun_again(did: list[str]) -> None:
    """Nothing is called that stands around sagas: no span is made for each page that is opened."""
    around, client = Around(), Client()
    around.ends.set()
    mediator = mediator_of(MemoryStorage(), Leg("a", did), middlewares=[around])
    await mediator.run(Journey(), saga_id="j")
    await client.get(await saga_events(mediator, Journey(), saga_id="j"))
    assert client.words == ["start", "a", "end"]
    assert around.began == 1


@in_jumping_time
@pytest.mark.parametrize("is_stored", [False, True])
async def test_what_keeps_a_saga_from_its_end_comes_out_at_once_as_it_is(did: list[str], is_stored: bool) -> None:
    """In no group, and not as a saga that is not there."""
    client = Client()
    async with mediator_of(MemoryStorage(), Leg("a", did), middlewares=[Refuses()]) as mediator:
        if is_stored:
            await mediator.submit(Journey(), saga_id="j")
        began = current_time()
        with pytest.raises(PermissionError, match="not today"):
            await client.get(await saga_events(mediator, Journey(), saga_id="j", poll=HOUR))
        assert current_time() == began


@in_jumping_time
@pytest.mark.parametrize("closes", ["mediator", "storage"])
async def test_the_answer_ends_with_its_mediator_and_with_its_storage(did: list[str], closes: str) -> None:
    """Its client comes back, to another process."""
    began, ends, client, storage = anyio.Event(), anyio.Event(), Client(), MemoryStorage()

    async def act(journey: Journey) -> None:
        began.set()
        await ends.wait()

    mediator = mediator_of(storage, Leg("a", did, act=act), Leg("b", did))
    async with anyio.create_task_group() as group, mediator:
        group.start_soon(client.get, await saga_events(mediator, Journey()))
        await began.wait()
        if closes == "storage":
            await storage.aclose()
        ends.set()
    assert "end" not in client.words


@in_jumping_time
@pytest.mark.parametrize("verb", ["load", "claim"])
async def test_a_store_that_does_not_answer_is_asked_again(did: list[str], verb: str) -> None:
    """By who looks at the log, and by who waits for another process to give the saga back."""
    silent, client = list[str](), Client()

    class Silent(MemoryStorage):
        def fail(self, called: str) -> None:
            if called in silent:
                silent.remove(called)
                raise StorageUnavailable("the store", "it is silent")

        async def load(self, saga_id: str) -> SagaRecord:
            self.fail("load")
            return await super().load(saga_id)

        async def claim(self, saga_id: str, **options: Any) -> Claim:
            self.fail("claim")
            return await super().claim(saga_id, **options)

    async with watching_what_another_one_drives(Silent(), client, did) as (other, claim):
        silent.append(verb)
        await other.release(claim)
    assert (client.words, silent) == (["start", "a", "end"], [])


@in_jumping_time
async def test_a_saga_that_ends_elsewhere_as_it_is_asked_for_is_told_to_its_end(did: list[str]) -> None:
    claims: list[str] = []

    class Late(MemoryStorage):
        async def claim(self, saga_id: str, **options: Any) -> Claim:
            if self is storage:
                claims.append(saga_id)
                if len(claims) == 2:  # the first one was refused
                    await other.release(held)
                    await elsewhere.resume("j")
            return await super().claim(saga_id, **options)

    client, storage = Client(), Late()
    other = storage.twin()
    mediator, elsewhere = (mediator_of(store, Leg("a", did)) for store in (storage, other))
    await elsewhere.submit(Journey(), saga_id="j")
    held = await other.claim("j")
    async with mediator:
        await client.get(await saga_events(mediator, Journey(), saga_id="j"))
    assert (client.words, len(claims)) == (["start", "a", "end"], 2)


async def test_an_application_without_the_saga_tells_its_steps_and_no_responses(did: list[str]) -> None:
    storage, client, sagas = MemoryStorage(), Client(), SagaMap()
    await mediator_of(storage, Leg("a", did)).run(Journey(), saga_id="j")
    sagas.bind(Journey, Saga[Journey](name="other", steps=[Leg("b", did)]))
    await client.get(await saga_events(SagaMediator(sagas, storage=storage), saga_id="j"))
    assert client.words == ["start", "a", "end"]
    assert "a reached" not in client.text


async def test_a_background_task_of_the_answer_runs_when_all_is_told(did: list[str]) -> None:
    """FastAPI leaves the tasks of an endpoint there."""
    client, seen = Client(), list[str]()
    async with mediator_of(MemoryStorage(), Leg("a", did)) as mediator:
        answer = await saga_events(mediator, Journey())
        answer.background = BackgroundTask(lambda: seen.extend(client.words))
        await client.get(answer)
    assert seen == ["start", "a", "end"]


async def test_headers_go_along_with_those_of_an_event_stream(did: list[str]) -> None:
    client, storage = Client(), MemoryStorage()
    mediator = mediator_of(storage, Leg("a", did))
    await mediator.run(Journey(), saga_id="j")
    await client.get(SagaEvents(mediator, "j", headers={"X-Shop": "tea"}))
    assert client.headers[b"x-shop"] == b"tea"
    assert client.headers[b"cache-control"] == b"no-cache"


@in_jumping_time
async def test_a_client_that_goes_leaves_no_saga_held_that_was_looked_at_for_it(did: list[str]) -> None:
    """Another process has given the saga back, and this one holds it for a moment to see whether it is free."""
    releasing, goes_on, client = anyio.Event(), anyio.Event(), Client()

    class Slow(MemoryStorage):
        async def release(self, claim: Claim, *, wait: float = 0.0) -> None:
            if self is storage:
                releasing.set()
                await goes_on.wait()
            await super().release(claim, wait=wait)

    storage = Slow()
    async with watching_what_another_one_drives(storage, client, did) as (other, claim):
        await other.release(claim)
        await releasing.wait()
        client.goes.set()
        await anyio.wait_all_tasks_blocked()
        goes_on.set()
    assert (await storage.load("j")).summary.owner is None
