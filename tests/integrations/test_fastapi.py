"""Sagas in a FastAPI application on real servers, watched by real clients."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from fastapi import FastAPI, Request, Response
from journeys import CARD, Journey, Leg, raises, saga_of
from sse import EventSource, all_events, refusal, served, words_of

from anysaga import (
    InvalidArgument,
    MediatorClosed,
    MemoryStorage,
    SagaMap,
    SagaMediator,
    SagaState,
    SQLAlchemyStorage,
    Step,
    StorageClosed,
    integrations,
)
from anysaga.abc import Claim, Storage
from anysaga.integrations import MediatorDep, SagaEvents, mediator_lifespan, saga_events

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["hypercorn on asyncio", "hypercorn on trio", "uvicorn on asyncio"])
def served_by(request: pytest.FixtureRequest) -> str:
    """Name a server and a loop that it runs on."""
    return str(request.param)


@pytest.fixture
def server(served_by: str) -> str:
    """Name the server."""
    return served_by.split(maxsplit=1)[0]


@pytest.fixture
def anyio_backend(served_by: str) -> str:
    """Run the test on the loop of the server."""
    return served_by.rsplit(maxsplit=1)[-1]


WITHOUT_SERVER = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])


@pytest.fixture(params=["memory", "sqlite"])
def closed_storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """Give a fresh store of each kind that nobody has opened."""
    return MemoryStorage() if request.param == "memory" else store_in(tmp_path)


def store_in(folder: Path) -> SQLAlchemyStorage:
    return SQLAlchemyStorage(folder / "sagas.db")


def mediator_of(storage: Storage, *steps: Step[Any, Any], **options: Any) -> SagaMediator:
    sagas = SagaMap()
    sagas.bind(Journey, saga_of(None, *steps, grace=1.0))
    return SagaMediator(sagas, storage=storage, **options)


def app_of(given: SagaMediator, **options: Any) -> FastAPI:
    """An application that starts journeys, and lets them be watched."""
    app = FastAPI(lifespan=mediator_lifespan(given))
    quick = {"poll": 0.02, **options}

    @app.get("/journeys/{saga_id}")
    async def start(saga_id: str, mediator: MediatorDep, request: Request, stop: str = "") -> Response:
        journey = Journey([stop] if stop else [])
        return await saga_events(mediator, journey, saga_id=saga_id, request=request, **quick)

    @app.get("/new")
    async def start_new(mediator: MediatorDep, request: Request) -> Response:
        return await saga_events(mediator, Journey(), request=request, **quick)

    @app.get("/journeys/{saga_id}/watch")
    async def watch(saga_id: str, mediator: MediatorDep, request: Request) -> Response:
        return await saga_events(mediator, saga_id=saga_id, request=request, **quick)

    return app


def gate() -> tuple[anyio.Event, anyio.Event, Callable[[Journey], Any]]:
    """A deed that waits: an event that it sets when it has begun, one that lets it end, and the deed."""
    began, ends = anyio.Event(), anyio.Event()

    async def deed(journey: Journey) -> None:
        began.set()
        await ends.wait()

    return began, ends, deed


class Sent:
    """What an application sends to a client."""

    body = b""

    async def __call__(self, message: Any) -> None:
        self.body += message.get("body", b"")


async def never() -> dict[str, Any]:
    """A client that says nothing, and stays."""
    await anyio.sleep_forever()
    raise AssertionError


async def ended(storage: Storage, saga_id: str) -> SagaState:
    """Wait until a saga has ended, and say how."""
    with anyio.fail_after(30):
        while not (state := (await storage.load(saga_id)).summary.state).is_end:  # noqa: ASYNC110 - nobody tells
            await anyio.sleep(0.01)
    return state


async def test_a_saga_is_told_from_start_to_end(server: str, closed_storage: Storage, did: list[str]) -> None:
    app = app_of(mediator_of(closed_storage, Leg("a", did), Leg("b", did)))
    async with served(app, server) as url:
        told = await all_events(f"{url}/journeys/j")
    assert [(number, event["type"], event.get("step")) for number, event in told] == [
        ("0", "start", None),
        ("2", "step", "a"),
        ("4", "step", "b"),
        ("5", "end", None),
    ]
    assert told[0][1] == {"type": "start", "saga_id": "j", "saga": "journey", "steps": ["a", "b"]}
    assert told[1][1]["response"] == "a reached"
    assert told[3][1] == {"type": "end", "saga_id": "j", "state": "COMPLETED"}


async def test_the_answer_is_an_event_stream_that_nobody_keeps(server: str, did: list[str]) -> None:
    app = app_of(mediator_of(MemoryStorage(), Leg("a", did)))
    async with served(app, server) as url, EventSource(f"{url}/journeys/j") as source:
        headers = source.headers
    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    assert headers["cache-control"] == "no-cache"
    assert headers["x-accel-buffering"] == "no"


async def test_a_step_is_told_before_the_next_one_ends(server: str, did: list[str]) -> None:
    _, ends, deed = gate()
    app = app_of(mediator_of(MemoryStorage(), Leg("a", did), Leg("b", did, act=deed)), poll=60, keep_alive=60)
    async with served(app, server) as url, EventSource(f"{url}/journeys/j") as source:
        first = [await source.next(), await source.next()]
        ends.set()
        seen = [event for event in first if event is not None] + await source.rest()
    assert words_of(seen) == ["start", "a", "b", "end"]


@pytest.mark.parametrize("policy", ["continue", "compensate"])
async def test_a_client_that_goes_away_detaches(server: str, did: list[str], policy: str) -> None:
    """The saga goes on, or is undone, as the mediator says."""
    began, ends, deed = gate()
    given = mediator_of(MemoryStorage(), Leg("a", did), Leg("b", did, act=deed), on_disconnect=policy)
    async with served(app_of(given), server) as url:
        async with EventSource(f"{url}/journeys/j") as source:
            assert await source.next() is not None
            await began.wait()
        if policy == "continue":
            ends.set()
        state = await ended(given.storage, "j")
    assert state is (SagaState.COMPLETED if policy == "continue" else SagaState.COMPENSATED)


@pytest.mark.parametrize("path", ["/journeys/j", "/journeys/j/watch"])
async def test_who_comes_back_is_told_exactly_the_rest(server: str, did: list[str], path: str) -> None:
    """Both while the saga goes on, and after its end."""
    began, ends, deed = gate()
    app = app_of(mediator_of(MemoryStorage(), Leg("a", did), Leg("b", did, act=deed), Leg("c", did)))
    async with served(app, server) as url:
        async with EventSource(f"{url}/journeys/j") as source:
            while (event := await source.next()) is not None and event[1]["type"] != "step":
                pass
            await began.wait()
        assert event is not None
        async with EventSource(url + path, event[0]) as source:
            ends.set()
            assert words_of(await source.rest()) == ["b", "c", "end"]
        everything = await all_events(url + path)
        assert words_of(everything) == ["start", "a", "b", "c", "end"]
        for at, (number, _) in enumerate(everything[:-1]):
            assert await all_events(url + path, number) == everything[at + 1 :]
    assert did == ["act a", "act b", "act c"]


@WITHOUT_SERVER
async def test_a_saga_that_another_process_gives_back_is_taken_up_for_who_watches_it_here(
    storage: Storage, did: list[str]
) -> None:
    """As when a server is replaced: its page came back to the next one while the first one still drove the saga."""
    began, ends, deed = gate()
    old, new = (mediator_of(storage, Leg("a", did, act=deed), Leg("b", did)) for _ in range(2))
    sent = Sent()

    async def run() -> None:
        with pytest.raises(MediatorClosed):
            await old.run(Journey(), saga_id="j")

    with anyio.fail_after(20):
        async with new, anyio.create_task_group() as group, old:
            group.start_soon(run)
            await began.wait()
            answer = await saga_events(new, Journey(), saga_id="j", poll=0.02)
            group.start_soon(answer, {"type": "http"}, never, sent)
            while not sent.body:  # noqa: ASYNC110 - nobody tells
                await anyio.sleep(0.01)
            group.start_soon(_set_once_drained, old, ends)
    assert sent.body.endswith(b'"state":"COMPLETED"}\n\n')
    assert did == ["act a", "act b"]


@WITHOUT_SERVER
@pytest.mark.parametrize("ends", [True, False])
async def test_a_saga_that_another_process_drives_is_left_to_it(did: list[str], ends: bool) -> None:
    """To its end, or until the client goes away."""
    asked_again, gone, sent = anyio.Event(), anyio.Event(), Sent()
    claims: list[str] = []

    class Asked(MemoryStorage):
        async def claim(self, saga_id: str, **options: Any) -> Claim:
            claims.append(saga_id)
            if len(claims) > 1:  # after that of the stream
                asked_again.set()
            return await super().claim(saga_id, **options)

    storage = Asked()
    began, goes_on, deed = gate()
    old, new = (mediator_of(storage, Leg("a", did, act=deed), Leg("b", did)) for _ in range(2))

    async def receive() -> dict[str, Any]:
        await gone.wait()
        return {"type": "http.disconnect"}

    with anyio.fail_after(20):
        async with new, old, anyio.create_task_group() as group:
            group.start_soon(partial(old.run, Journey(), saga_id="j"))
            await began.wait()
            async with anyio.create_task_group() as watching:
                answer = await saga_events(new, Journey(), saga_id="j", poll=0.001)
                watching.start_soon(answer, {"type": "http"}, receive, sent)
                await asked_again.wait()
                (goes_on if ends else gone).set()
            goes_on.set()
    assert sent.body.endswith(b'"state":"COMPLETED"}\n\n') is ends
    assert did == ["act a", "act b"]


async def test_who_has_seen_the_end_is_asked_not_to_come_back(server: str, did: list[str]) -> None:
    """204 stops an EventSource; so it does where a new saga would be started for each time that it comes back."""
    async with served(app_of(mediator_of(MemoryStorage(), Leg("a", did))), server) as url:
        number = (await all_events(f"{url}/journeys/j"))[-1][0] or ""
        for path in ("/journeys/j", "/journeys/j/watch", "/new"):
            assert await refusal(url + path, number) == (204, "")
    assert did == ["act a"]


async def test_who_comes_back_for_a_saga_that_is_gone_does_not_start_it_again(server: str, did: list[str]) -> None:
    async with served(app_of(mediator_of(MemoryStorage(), Leg("a", did))), server) as url:
        assert (await refusal(f"{url}/journeys/j", "3"))[0] == 404
    assert did == []


@WITHOUT_SERVER
@pytest.mark.parametrize("number", ["", "-1", "x", "9" * 5000, "1.0", "²"])
async def test_a_last_event_id_of_somebody_else_begins_at_the_start(number: str, did: list[str]) -> None:
    given = mediator_of(MemoryStorage(), Leg("a", did))
    await given.run(Journey(), saga_id="j")
    scope = {"type": "http", "headers": [(b"last-event-id", number.encode())]}
    answer = await saga_events(given, saga_id="j", request=Request(scope))
    assert isinstance(answer, SagaEvents)
    sent = Sent()
    await answer(scope, never, sent)
    assert sent.body.startswith(b'id: 0\ndata: {"type":"start"')


@pytest.mark.parametrize("path", ["/journeys/j", "/journeys/j/watch"])
async def test_a_last_event_id_beyond_the_log_begins_at_the_start(server: str, did: list[str], path: str) -> None:
    """It is of an earlier saga that had this id. Both while the saga goes on, and after its end."""
    began, ends, deed = gate()
    app = app_of(mediator_of(MemoryStorage(), Leg("a", did), Leg("b", did, act=deed)))
    async with served(app, server) as url:
        async with EventSource(f"{url}/journeys/j"):
            await began.wait()
        async with EventSource(url + path, "50") as source:
            ends.set()
            assert words_of(await source.rest()) == ["start", "a", "b", "end"]
        assert words_of(await all_events(url + path, "50")) == ["start", "a", "b", "end"]


async def test_a_failing_saga_tells_its_compensation_and_then_its_error(server: str, did: list[str]) -> None:
    """In words that have no secret of the context."""
    fails = raises(ValueError(f"no seat for {CARD}"))
    app = app_of(mediator_of(MemoryStorage(), Leg("a", did), Leg("b", did), Leg("c", did, act=fails, atomic=True)))
    async with served(app, server) as url:
        told = await all_events(f"{url}/journeys/j")
    assert words_of(told) == ["start", "a", "b", "b", "a", "error", "end"]
    assert [event["type"] for _, event in told[3:5]] == ["compensation"] * 2
    assert told[5][1]["state"] == told[6][1]["state"] == "COMPENSATED"
    assert "no seat for ***" in told[5][1]["error"]
    assert CARD not in str(told)


async def test_what_cannot_be_watched_is_answered_with_its_status(server: str, did: list[str]) -> None:
    async with served(app_of(mediator_of(MemoryStorage(), Leg("a", did))), server) as url:
        status, words = await refusal(f"{url}/journeys/j/watch")
        assert (status, "there is no saga 'j'" in words) == (404, True)
        assert (await refusal(f"{url}/journeys/{'j' * 300}"))[0] == 422
        await all_events(f"{url}/journeys/j")
        status, words = await refusal(f"{url}/journeys/j?stop=elsewhere")
        assert (status, "another context" in words) == (409, True)
    assert did == ["act a"]


async def test_a_silent_connection_is_kept_alive(server: str, did: list[str]) -> None:
    _, ends, deed = gate()
    app = app_of(mediator_of(MemoryStorage(), Leg("a", did, act=deed)), poll=30, keep_alive=0.05)
    async with served(app, server) as url, EventSource(f"{url}/journeys/j") as source:
        while (line := await source.next_line()) != ": keep-alive":
            assert line is not None
        ends.set()
        await source.rest()


async def test_shutdown_drains_the_mediator_and_closes_the_storage(
    server: str, closed_storage: Storage, tmp_path: Path, did: list[str]
) -> None:
    """A client that watches is let go, and its saga is resumed by the next process."""
    began, ends, deed = gate()
    given = mediator_of(closed_storage, Leg("a", did, act=deed), Leg("b", did))
    of_next = closed_storage.twin() if isinstance(closed_storage, MemoryStorage) else store_in(tmp_path)
    async with anyio.create_task_group() as group, served(app_of(given), server) as url:
        async with EventSource(f"{url}/journeys/j") as source:
            assert await source.next() is not None
            await began.wait()
        group.start_soon(_set_once_drained, given, ends)
    assert did == ["act a"]
    with pytest.raises(StorageClosed):
        await closed_storage.load("j")
    async with of_next:
        await mediator_of(of_next, Leg("a", did, act=deed), Leg("b", did)).resume("j")
    assert did == ["act a", "act b"]


async def _set_once_drained(mediator: SagaMediator, ends: anyio.Event) -> None:
    while mediator._pool is not None:  # noqa: ASYNC110 - nobody tells
        await anyio.sleep(0.01)
    ends.set()


@WITHOUT_SERVER
async def test_a_second_lifespan_of_an_application_is_told_to_take_another_storage(
    closed_storage: Storage, did: list[str]
) -> None:
    """As where two test clients share one: the first lifespan has closed its storage for good."""
    lifespan = mediator_lifespan(mediator_of(closed_storage, Leg("a", did)))
    async with lifespan(None):
        pass
    with pytest.raises(StorageClosed, match=r"does not open again: .* make another one"):
        async with lifespan(None):
            pass


def test_a_lifespan_is_of_a_mediator() -> None:
    """A function that makes one would fail only when the application starts, and not in words of ours."""
    with pytest.raises(InvalidArgument, match="give a SagaMediator"):
        mediator_lifespan(lambda: mediator_of(MemoryStorage()))  # type: ignore[arg-type]  # what is refused


@WITHOUT_SERVER
async def test_without_the_lifespan_the_error_names_it() -> None:
    app = FastAPI()

    @app.get("/")
    async def ask(mediator: MediatorDep) -> None:
        """Never get here."""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b""}
    with pytest.raises(InvalidArgument, match=r"lifespan=mediator_lifespan\(mediator\)"):
        await app(scope, receive, Sent())


@WITHOUT_SERVER
@pytest.mark.parametrize("where", ["", "/shop"])
async def test_the_mediator_is_that_of_the_outermost_application_unless_it_is_overridden(
    did: list[str], where: str
) -> None:
    found: list[SagaMediator] = []
    given, other = (mediator_of(MemoryStorage(), Leg("a", did)) for _ in range(2))
    outermost = FastAPI(lifespan=mediator_lifespan(given))
    app = FastAPI() if where else outermost
    if where:
        outermost.mount(where, app)

    @app.get("/")
    async def ask(mediator: MediatorDep) -> None:
        found.append(mediator)

    async with outermost.router.lifespan_context(outermost) as state:
        for _ in range(2):
            scope = {"type": "http", "method": "GET", "path": f"{where}/", "headers": [], "query_string": b""}
            await outermost({**scope, "state": dict(state or {})}, never, Sent())
            app.dependency_overrides[integrations.mediator_of] = lambda: other
    assert found == [given, other]


def test_without_the_package_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "anysaga.integrations._fastapi", raising=False)
    monkeypatch.setitem(sys.modules, "fastapi", None)
    monkeypatch.delattr(integrations, "saga_events", raising=False)
    with pytest.raises(ImportError, match=r"anysaga\[fastapi\]"):
        _ = integrations.saga_events
