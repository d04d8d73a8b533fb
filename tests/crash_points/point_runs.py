"""Stories: a saga is started, dies somewhere, is taken up by others, and is judged in the end."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Literal

from anyio import fail_after
from attrs import define, field
from crash_law import at_the_end, on_begin
from point_shapes import Broken, Shape
from crash_storage import CrashingStorage, House
from point_world import Died, Event, Ledger, Process, Refused, Trip

from anysaga import NotDone, recover, recover_saga
from anysaga._errors import (
    NotStorable,
    SagaAlreadyRunning,
    SagaCompensated,
    SagaNotFound,
    SagaParked,
    StaleFence,
)
from anysaga.abc import Storage

Way = Literal["recover", "recover_saga", "restart"]
WAYS: tuple[Way, ...] = ("recover", "recover_saga", "restart")
TOLD = (Broken, NotDone, NotStorable, Refused, SagaParked, SagaCompensated, Died, StaleFence)
"""What a caller may be told, whatever the shape."""


@define(eq=False)
class Story:
    """One saga in one house, through all its processes."""

    house: House
    shape: Shape
    saga_id: str = "saga"
    ledger: Ledger = field(factory=Ledger)
    processes: list[Process] = field(factory=list)
    wrong: list[str] = field(factory=list)
    _stores: list[Storage] = field(factory=list)

    def judge(self, process: Process, call: Event) -> tuple[str, ...]:
        """What is wrong with a call that begins."""
        wrong = list(on_begin(self.house.read(self.saga_id), call, self.ledger.events, self.shape.rules))
        if process.dead:
            wrong.append(f"B3 {call.verb} {call.path} began although the store had failed")
        return tuple(wrong)

    def new_process(self, **options: object) -> Process:
        process = Process(self.ledger, len(self.processes) + 1, self.judge, **options)  # type: ignore[arg-type]
        self.processes.append(process)
        return process

    async def start(self, process: Process, *, context: Trip | None = None) -> None:
        """Run the saga as its caller does."""
        storage = self.store_of(process)
        saga = self.shape.saga(storage=storage, container={Process: lambda: process})
        await self.told(lambda: saga.run(context or Trip(["start"]), saga_id=self.saga_id), process)

    async def take_up(self, process: Process, way: Way = "recover") -> None:
        """Finish the saga in one of the ways in which that is done."""
        if way == "restart":
            await self.start(process)
            return
        storage = self.store_of(process)
        container = {Process: lambda: process}
        if way == "recover":
            await self.told(lambda: recover([self.shape.saga], storage=storage, container=container), process)
            return
        await self.told(
            lambda: recover_saga(self.shape.saga, self.saga_id, storage=storage, container=container),
            process,
            SagaNotFound,
        )

    def store_of(self, process: Process) -> CrashingStorage:
        """A store for a process that begins."""
        inner = self.house.open()
        self._stores.append(inner)
        return CrashingStorage(inner, process, waits=self.house.waits)

    async def told(self, run: Callable[[], Awaitable[object]], process: Process, *also: type[Exception]) -> None:
        """Run, and keep what a caller must not be told."""
        try:
            with fail_after(20):
                await run()
        except (*TOLD, *also):
            pass
        except Exception as error:  # noqa: BLE001 - whatever it is, it is wrong
            self.wrong.append(f"engine: process {process.number} ended with {error!r}")
        if process.dead:
            self.bury(process)

    def bury(self, process: Process) -> None:
        """Let the lease of a process run out."""
        self.house.bury(self._stores[process.number - 1])

    def held(self) -> list[str]:
        """What the stores of this story hold on to."""
        return [saga_id for store in self._stores for saga_id in self.house.held(store) if saga_id == self.saga_id]

    async def verdict(self, *, quiet: bool = False) -> list[str]:
        """All that is wrong, once nothing goes on any more."""
        for store in self._stores:
            await store.aclose()
        log = self.house.read(self.saga_id)
        acknowledged = [entry for process in self.processes for entry in process.acknowledged]
        if log is None:
            calls = [event for event in self.ledger.events if event.what == "begin"]
            return self.wrong + [f"I4 {call.verb} {call.path}, and there is no saga" for call in calls]
        wrong = self.wrong + list(at_the_end(self.ledger, log, self.shape.rules, acknowledged))
        ends = {self.shape.quiet} if quiet else self.shape.ends
        if log.state not in ends:
            wrong.append(f"I1 the saga came to {log.state}")
        if log.owner is not None:
            wrong.append(f"I0 the saga has ended and still belongs to {log.owner}")
        return wrong


async def undisturbed(story: Story) -> list[str]:
    """A saga that nobody disturbs."""
    await story.start(story.new_process())
    return await story.verdict(quiet=True)


async def die_once(story: Story, at: int, way: Way = "recover") -> bool:
    """The process dies at one point, and another takes the saga up. False if there is no such point."""
    first = story.new_process(dies_at=at)
    await story.start(first)
    if not first.dead:
        return False
    await _take_up_and_look(story, way)
    return True


async def die_twice(story: Story, at: int, then: int, way: Way = "recover") -> bool:
    """The second process dies as well, and a third one takes over. False if the second has no such point."""
    await story.start(story.new_process(dies_at=at))
    second = story.new_process(dies_at=then)
    await story.take_up(second, way)
    if not second.dead:
        return False
    await _take_up_and_look(story, "recover" if way == "restart" else way)
    return True


async def stand_still(story: Story, at: int) -> bool:
    """The process stands still at one point until its lease is gone and another has finished; then it goes on."""

    async def pause(process: Process, name: str) -> None:
        if len(process.points) == at:
            story.bury(process)
            await story.take_up(story.new_process())

    first = story.new_process(hook=pause)
    await story.start(first)
    if len(first.points) < at:
        return False
    await _take_up_and_look(story, "recover")
    return True


async def _take_up_and_look(story: Story, way: Way) -> None:
    """Take the saga up, and see that nothing is left to do for one who comes later."""
    await story.take_up(story.new_process(), way)
    began = len(story.ledger.events)
    await story.take_up(story.new_process(), "recover")
    if len(story.ledger.events) > began and way != "restart":
        story.wrong.append("I0 one recovery did not bring the saga to its end")


async def each_death(
    shape: Shape, house: Callable[[], House], way: Way, *, name: str = "saga"
) -> AsyncIterator[tuple[str, list[str]]]:
    """The verdicts on a shape that dies at each of its points."""
    for at in range(1, 1000):
        story = Story(house(), shape, f"{name} {at} {way}")
        died = await die_once(story, at, way)
        wrong = await story.verdict()
        if not died:
            return
        yield f"{shape.name}: died {story.processes[0].points[-1]} ({at}), then {way}", wrong


async def each_two_deaths(
    shape: Shape, house: Callable[[], House], way: Way, *, every: int = 1, most: float = math.inf
) -> AsyncIterator[tuple[str, list[str]]]:
    """The verdicts on a shape that dies, and dies again as it is taken up: all pairs of points, or every n-th."""
    points = len((await _counted(shape, house)).points)
    pair = 0
    for at in range(1, points + 1):
        for then in range(1, 1000):
            pair += 1
            if pair % every:
                continue
            story = Story(house(), shape, f"saga {at} {then} {way}")
            died = await die_twice(story, at, then, way)
            wrong = await story.verdict()
            if not died or pair >= most:
                break
            where = " and ".join(process.points[-1] for process in story.processes[:2])
            yield f"{shape.name}: died {where} ({at}, {then}), {way}", wrong


async def each_standstill(shape: Shape, house: Callable[[], House]) -> AsyncIterator[tuple[str, list[str]]]:
    """The verdicts on a shape whose process stands still at each of its points."""
    for at in range(1, 1000):
        story = Story(house(), shape, f"still {at}")
        stood = await stand_still(story, at)
        wrong = await story.verdict()
        if not stood:
            return
        yield f"{shape.name}: stood still {story.processes[0].points[at - 1]} ({at})", wrong


async def _counted(shape: Shape, house: Callable[[], House]) -> Process:
    story = Story(house(), shape, "counted")
    process = story.new_process()
    await story.start(process)
    await story.verdict()
    return process


def in_words(found: Iterable[tuple[str, list[str]]]) -> str:
    """What is wrong, as one text."""
    return "\n".join(f"{where}\n    " + "\n    ".join(wrong) for where, wrong in found if wrong)


