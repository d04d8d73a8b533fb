"""Events that steps record: which of them enter the outbox, and as what."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import pytest
from attrs import define, field

from anysaga import (
    CurrentStep,
    EventHandler,
    EventMap,
    EventRefused,
    Fallback,
    InvalidArgument,
    MemoryStorage,
    NotDone,
    NotStorable,
    Outcome,
    Parallel,
    Retry,
    Saga,
    SagaCompensated,
    SagaState,
    SQLAlchemyStorage,
    Step,
    abandon,
    current_step,
    recover,
    secret,
)
from anysaga.abc import Delivery, Outbox, Settlement, Storage
from anysaga.events import EventRelay

pytestmark = pytest.mark.anyio


@define
class Order:
    number: int = 1


@define
class Paid:
    number: int
    what: str = "order"


@define
class Refunded:
    number: int


@define
class Opaque:
    thing: object = field(factory=object)


Act = Callable[[Order], Any]


class Acting(Step[Order]):
    """Acts and undoes as it is told."""

    on_act: Act
    on_undo: Act | None

    async def act(self, order: Order) -> None:
        result = type(self).on_act(order)
        if result is not None:
            await result

    async def compensate(self, order: Order) -> None:
        on_undo = type(self).on_undo
        if on_undo is not None:
            on_undo(order)


def step(name: str, act: Act, undo: Act | None = None, **options: Any) -> type[Acting]:
    """A step of this name, which acts and undoes so."""
    undoing = None if undo is None else staticmethod(undo)
    return type(name, (Acting,), {"name": name, "on_act": staticmethod(act), "on_undo": undoing, **options})


def paid(order: Order) -> None:
    current_step().record(Paid(order.number))


def refunded(order: Order) -> None:
    current_step().record(Refunded(order.number))


def fails(_: Order) -> None:
    raise RuntimeError("no")


async def waiting(storage: Storage, destination: str = "broker") -> list[Delivery]:
    """All that is on its way, in the order of each saga."""
    assert isinstance(storage, Outbox)
    found: list[Delivery] = []
    while due := await storage.lease_events(destination, 100, 600):
        found += due
        await storage.settle_events([Settlement(each) for each in due])
    return found


def said(deliveries: list[Delivery]) -> list[tuple[str, str]]:
    return [(each.message.step, each.message.type) for each in deliveries]


async def test_an_event_of_a_done_step_is_on_its_way_with_a_stable_id(storage: Storage) -> None:
    await Saga[Order](name="order", storage=storage, steps=[step("Pay", paid)]).run(Order(7), saga_id="order-7")
    (delivery,) = await waiting(storage)
    message = delivery.message
    assert message.id == "order-7/1/act/1"
    assert (message.saga_id, message.saga, message.step, message.type) == ("order-7", "order", "Pay", "Paid")
    assert json.loads(message.data) == {"number": 7, "what": "order"}


async def test_it_is_what_it_was_when_it_was_recorded(storage: Storage) -> None:
    def act(_: Order) -> None:
        event = Paid(1)
        current_step().record(event)
        event.number = 2

    await Saga[Order](name="order", storage=storage, steps=[step("Pay", act)]).run(Order())
    assert [json.loads(each.message.data)["number"] for each in await waiting(storage)] == [1]


async def test_events_of_a_saga_are_in_the_order_of_its_steps(storage: Storage) -> None:
    def twice(order: Order) -> None:
        paid(order)
        refunded(order)

    steps = [step("A", twice), step("B", paid), step("C", twice)]
    await Saga[Order](name="order", storage=storage, steps=steps).run(Order())
    assert said(await waiting(storage)) == [
        ("A", "Paid"),
        ("A", "Refunded"),
        ("B", "Paid"),
        ("C", "Paid"),
        ("C", "Refunded"),
    ]


def _records_and_fails(order: Order) -> None:
    paid(order)
    raise RuntimeError("no")


def _records_and_is_not_done(order: Order) -> None:
    paid(order)
    raise NotDone("no")


async def _records_and_is_late(order: Order) -> None:
    paid(order)
    await anyio.sleep_forever()


@pytest.mark.parametrize("act", [_records_and_fails, _records_and_is_not_done, _records_and_is_late])
async def test_events_of_an_attempt_that_did_not_end_done_are_dropped(storage: Storage, act: Act) -> None:
    steps = [step("Pay", act, timeout=0.01)]
    with pytest.raises((RuntimeError, NotDone, TimeoutError)):
        await Saga[Order](name="order", storage=storage, steps=steps).run(Order())
    assert await waiting(storage) == []


async def test_only_the_attempt_that_was_done_counts(storage: Storage) -> None:
    def act(order: Order) -> None:
        current_step().record(Paid(current_step().attempt))
        if current_step().attempt < 3:
            raise RuntimeError("again")

    steps = [step("Pay", act, retry=Retry(attempts=3, delay=0))]
    await Saga[Order](name="order", storage=storage, steps=steps).run(Order())
    assert [json.loads(each.message.data)["number"] for each in await waiting(storage)] == [3]


async def test_an_undo_takes_nothing_back_and_has_events_of_its_own(storage: Storage) -> None:
    steps = [step("Pay", paid, refunded), step("Send", fails)]
    with pytest.raises(RuntimeError):
        await Saga[Order](name="order", storage=storage, steps=steps).run(Order(), saga_id="o")
    found = await waiting(storage)
    assert said(found) == [("Pay", "Paid"), ("Pay", "Refunded")]
    assert [each.message.id for each in found] == ["o/1/act/1", "o/1/undo/1"]


async def test_the_fallback_that_did_the_work_is_the_one_that_is_heard(storage: Storage) -> None:
    steps = [Fallback(step("First", _records_and_fails), step("Second", paid))]
    await Saga[Order](name="order", storage=storage, steps=steps).run(Order())
    assert said(await waiting(storage)) == [("Second", "Paid")]


async def test_branches_of_a_parallel_have_events_with_ids_of_their_own(storage: Storage) -> None:
    steps = [Parallel(step("A", paid), step("B", paid))]
    await Saga[Order](name="order", storage=storage, steps=steps).run(Order(), saga_id="o")
    assert sorted(each.message.id for each in await waiting(storage)) == ["o/1/1/act/1", "o/1/2/act/1"]


async def test_an_event_adds_no_commit(tmp_path: Path, commits: list[str]) -> None:
    async with SQLAlchemyStorage(tmp_path / "sagas.db") as storage:
        await storage.find()
        counts = []
        for act in (paid, lambda _: None):
            commits.clear()
            await Saga[Order](name="order", storage=storage, steps=[step("Pay", act, refunded)]).run(Order())
            counts.append(len(commits))
        assert counts == [2, 2]


async def test_a_step_in_a_thread_records_events_too(storage: Storage) -> None:
    class Pay(Step[Order]):
        read_only = True

        def act(self, order: Order) -> None:
            paid(order)

    await Saga[Order](name="order", storage=storage, steps=[Pay]).run(Order())
    assert said(await waiting(storage)) == [("Pay", "Paid")]


class TestAtEnd:
    def at_end(self, order: Order) -> None:
        current_step().record(Paid(order.number), publish="at_end")

    async def test_it_waits_until_the_saga_is_completed(self, storage: Storage) -> None:
        saga = Saga[Order](name="order", storage=storage, steps=[step("Pay", self.at_end), step("Send", paid)])
        async with saga.transaction(Order()) as transaction:
            await anext(transaction)
            assert await waiting(storage) == []
            await anext(transaction)
        assert sorted(said(await waiting(storage))) == [("Pay", "Paid"), ("Send", "Paid")]

    async def test_it_is_dropped_if_the_saga_goes_back(self, storage: Storage) -> None:
        saga = Saga[Order](name="order", storage=storage, steps=[step("Pay", self.at_end), step("Send", fails)])
        with pytest.raises(RuntimeError):
            await saga.run(Order())
        assert await waiting(storage) == []
        assert isinstance(storage, Outbox)
        assert (await storage.outbox_lag()).waiting == 0

    async def test_it_goes_when_another_owner_completes_the_saga(self, storage: Storage) -> None:
        saga = Saga[Order](name="order", storage=storage, steps=[step("Pay", self.at_end), step("Send", paid)])
        async with saga.transaction(Order()) as transaction:
            await anext(transaction)
            await transaction.suspend()
        await recover([saga], storage=storage)
        assert sorted(said(await waiting(storage))) == [("Pay", "Paid"), ("Send", "Paid")]

    async def test_it_is_dropped_when_a_person_abandons_the_saga(self, storage: Storage) -> None:
        saga = Saga[Order](name="order", storage=storage, steps=[step("Pay", self.at_end), step("Send", paid)])
        async with saga.transaction(Order(), saga_id="o") as transaction:
            await anext(transaction)
            await transaction.suspend()
        await abandon("o", storage=storage, reason="a test")
        dropped = await storage.find(states=[SagaState.ABANDONED])
        assert [each.saga_id for each in dropped] == ["o"]
        assert await waiting(storage) == []


class TestRefused:
    @pytest.fixture
    def storage(self) -> MemoryStorage:
        return MemoryStorage()

    async def test_what_cannot_be_stored_fails_the_step_and_the_saga_goes_back(self, storage: Storage) -> None:
        """As a context that cannot be stored: without a retry, and beginning with the undo of that very step."""
        attempts: list[int] = []
        undone: list[Outcome | None] = []

        def act(_: Order) -> None:
            attempts.append(1)
            current_step().record(Opaque())

        steps = [step("Pay", act, lambda _: undone.append(current_step().outcome), retry=Retry(attempts=3, delay=0))]
        with pytest.raises(NotStorable, match="thing"):
            await Saga[Order](name="order", storage=storage, steps=steps).run(Order())
        assert (attempts, undone) == ([1], [Outcome.UNKNOWN])

    @pytest.mark.parametrize(
        ("event", "words"),
        [
            ({"number": 1}, "dict .* is neither an attrs class nor a dataclass"),
            ("paid", "str .* is neither an attrs class nor a dataclass"),
            (("paid", 1), "tuple .* is neither an attrs class nor a dataclass"),
            (Paid, "it is a class: record an object of it"),
        ],
        ids=["dict", "text", "tuple", "class"],
    )
    async def test_an_event_is_of_a_class_with_fields(self, storage: Storage, event: object, words: str) -> None:
        """All events are told apart by the names of their classes, and "dict" would be one of them."""
        steps = [step("Pay", lambda _: current_step().record(event))]
        with pytest.raises(NotStorable, match=words):
            await Saga[Order](name="order", storage=storage, steps=steps).run(Order())
        assert await waiting(storage) == []

    async def test_a_step_that_overlooks_it_fails_all_the_same(self, storage: Storage) -> None:
        def act(order: Order) -> None:
            paid(order)
            with pytest.raises(NotStorable):
                current_step().record(Opaque())

        steps = [Fallback(step("Pay", act), step("Other", paid))]
        with pytest.raises(NotStorable):
            await Saga[Order](name="order", storage=storage, steps=steps).run(Order())
        assert await waiting(storage) == []

    async def test_an_undo_that_overlooks_it_has_failed(self, storage: Storage) -> None:
        def undo(_: Order) -> None:
            with pytest.raises(NotStorable):
                current_step().record(Opaque())

        steps = [step("Pay", paid, undo, compensate_retry=Retry(attempts=1)), step("Send", fails)]
        saga = Saga[Order](name="order", storage=storage, steps=steps)
        with pytest.raises(Exception, match="parked"):
            await saga.run(Order(), saga_id="o")
        assert (await storage.load("o")).summary.state is SagaState.PARKED

    async def test_a_storage_without_an_outbox_says_so(self) -> None:
        saga = Saga[Order](name="order", storage=_without_outbox(MemoryStorage()), steps=[step("Pay", paid)])
        with pytest.raises(EventRefused, match=r"'Pay'.*Outbox"):
            await saga.run(Order())

    async def test_a_probe_records_nothing(self, storage: Storage) -> None:
        refused: list[str] = []

        async def probe(_: object, order: Order) -> Outcome:
            try:
                paid(order)
            except EventRefused as error:
                refused.append(str(error))
            return Outcome.NOT_DONE

        steps = [step("Pay", fails, probe=probe)]
        with pytest.raises(RuntimeError):
            await Saga[Order](name="order", storage=storage, steps=steps).run(Order())
        assert len(refused) == 1

    async def test_a_call_that_has_ended_records_nothing(self, storage: Storage) -> None:
        """What a task that outlives its step records has no commit to be in: it is refused, and not lost silently."""
        calls: list[CurrentStep] = []

        def keep(_: Order) -> None:
            calls.append(current_step())

        saga = Saga[Order](name="order", storage=storage, steps=[step("Pay", keep, keep), step("Send", fails)])
        with pytest.raises(RuntimeError):
            await saga.run(Order())
        assert len(calls) == 2
        for ended in calls:
            with pytest.raises(EventRefused, match=r"'Pay'.*has ended"):
                ended.record(Paid(1))

    async def test_another_word_for_when_is_refused(self, storage: Storage) -> None:
        def act(_: Order) -> None:
            current_step().record(Paid(1), publish="later")  # type: ignore[arg-type]  # on purpose

        with pytest.raises(InvalidArgument, match="at_end"):
            await Saga[Order](name="order", storage=storage, steps=[step("Pay", act)]).run(Order())


def _yields(_: Paid) -> Iterator[int]:
    yield 1


async def _yields_later(_: Paid) -> AsyncIterator[int]:
    yield 1


class Yielding(EventHandler[Paid]):
    async def handle(self, event: Paid) -> AsyncIterator[Paid]:
        yield event


class NoEvent(EventHandler[Paid]):
    def handle(self) -> None: ...  # type: ignore[override]  # on purpose


class Static:
    @staticmethod
    def handle(_: Paid) -> None: ...

    @classmethod
    def of_class(cls, _: Paid) -> None: ...


class TestEventMap:
    @pytest.fixture
    def storage(self) -> MemoryStorage:
        return MemoryStorage()

    async def test_an_event_goes_to_the_broker_and_to_each_handler(self, storage: Storage) -> None:
        events = EventMap().bind(Paid, _first, _second, name="order.paid")
        await Saga[Order](name="order", storage=storage, steps=[step("Pay", paid)], events=events).run(Order())
        found = [await waiting(storage, name) for name in ("broker", "handler:_first", "handler:_second")]
        assert [[each.message.type for each in some] for some in found] == [["order.paid"]] * 3

    async def test_a_type_may_be_kept_from_the_broker(self, storage: Storage) -> None:
        events = EventMap().bind(Paid, _first, publish=False)
        await Saga[Order](name="order", storage=storage, steps=[step("Pay", paid)], events=events).run(Order())
        assert await waiting(storage) == []
        assert len(await waiting(storage, "handler:_first")) == 1

    async def test_all_may_be_kept_from_the_broker_but_for_some(self, storage: Storage) -> None:
        events = EventMap(publish=False).bind(Refunded, publish=True)

        def both(order: Order) -> None:
            paid(order)
            refunded(order)

        await Saga[Order](name="order", storage=storage, steps=[step("Pay", both)], events=events).run(Order())
        assert said(await waiting(storage)) == [("Pay", "Refunded")]

    def test_binding_again_adds_handlers_and_keeps_the_rest(self) -> None:
        events = EventMap().bind(Paid, _first, name="order.paid", publish=False).bind(Paid, _second)
        binding = events.binding_of(Paid)
        assert (binding.name, binding.destinations) == ("order.paid", ("handler:_first", "handler:_second"))
        assert set(events.targets["handler:_first"].types) == {"order.paid"}

    async def test_handlers_know_a_type_by_a_name_that_it_was_given_later(self, storage: Storage) -> None:
        """And by the former one: events may be on their way under it."""
        heard: list[Paid] = []
        events = EventMap(publish=False).bind(Paid, heard.append)
        await Saga[Order](name="order", storage=storage, steps=[step("Pay", paid)], events=events).run(Order())
        events.bind(Paid, name="order.paid")
        await Saga[Order](name="order", storage=storage, steps=[step("Pay", paid)], events=events).run(Order())
        await EventRelay(storage, events=events).deliver_due()
        assert heard == [Paid(1)] * 2

    def test_a_name_means_one_type(self) -> None:
        events = EventMap().bind(Paid, name="event")
        with pytest.raises(InvalidArgument, match="Paid is called that"):
            events.bind(Refunded, name="event")
        other = type("event", (), {})
        with pytest.raises((InvalidArgument, NotStorable)):
            events.binding_of(define(other))

    def test_a_name_means_one_type_though_none_was_bound(self) -> None:
        events = EventMap()
        events.binding_of(Paid)
        with pytest.raises(InvalidArgument, match="Paid is called that"):
            events.binding_of(define(type("Paid", (), {})))

    def test_two_handlers_of_one_name_are_told_apart_at_once(self) -> None:
        def other(_: Paid) -> None: ...

        other.__qualname__ = "_first"
        with pytest.raises(InvalidArgument, match="rename"):
            EventMap().bind(Paid, _first, other)

    async def test_a_method_of_one_object_may_handle_several_types(self, storage: Storage) -> None:
        """Also of maps that one relay takes together."""
        ledger: list[object] = []
        events = EventMap(publish=False).bind(Paid, ledger.append).bind(Refunded, ledger.append)

        def both(_: Order) -> None:
            current_step().record(Paid(1))
            current_step().record(Refunded(2))

        await Saga[Order](name="order", storage=storage, steps=[step("Pay", both)], events=events).run(Order())
        others = EventMap(publish=False).bind(Paid, ledger.append)
        await EventRelay(storage, events=[events, others]).deliver_due()
        assert ledger == [Paid(1), Refunded(2)]

    @pytest.mark.parametrize("handler", ["text", int, object()])
    def test_what_is_no_handler_is_refused_at_once(self, handler: Any) -> None:
        with pytest.raises(InvalidArgument, match="handle"):
            EventMap().bind(Paid, handler)

    @pytest.mark.parametrize(
        "handler", [_yields, partial(_yields), _yields_later, Yielding, Yielding().handle], ids=range(5)
    )
    def test_a_handler_that_would_do_nothing_is_refused_at_once(self, handler: Any) -> None:
        """Called, it makes a generator, and the event would count as delivered."""
        with pytest.raises(InvalidArgument, match="has a `yield`"):
            EventMap().bind(Paid, handler)

    @pytest.mark.parametrize("handler", [lambda: None, lambda _, more: more, NoEvent, NoEvent().handle], ids=range(4))
    def test_a_handler_that_cannot_be_called_with_an_event_is_refused_at_once(self, handler: Any) -> None:
        with pytest.raises(InvalidArgument, match="with the event alone"):
            EventMap().bind(Paid, handler)

    @pytest.mark.parametrize(
        "handler", [Static, Static().of_class, len, partial(print, 1), lambda *_: None], ids=range(5)
    )
    def test_whatever_takes_an_event_may_handle_it(self, handler: Any) -> None:
        assert EventMap().bind(Paid, handler).targets

    @pytest.mark.parametrize("name", ["", "x" * 201, 5, "a\0b", "a\ud800b"])
    def test_a_name_that_no_store_could_keep_is_refused_at_once(self, name: Any) -> None:
        with pytest.raises(InvalidArgument, match="1 to 200 printable characters"):
            EventMap().bind(Paid, name=name)

    def test_a_handler_whose_name_no_store_could_keep_is_refused_at_once(self) -> None:
        def handle(_: Paid) -> None: ...

        handle.__qualname__ = "x" * 1000
        with pytest.raises(InvalidArgument, match="its name may have"):
            EventMap().bind(Paid, handle)

    def test_a_type_that_cannot_be_stored_is_refused_at_once(self) -> None:
        with pytest.raises(NotStorable, match="thing"):
            EventMap().bind(define(type("Odd", (), {"__annotations__": {"thing": Callable[[], None]}})))

    def test_something_else_than_a_map_is_refused_at_declaration(self) -> None:
        with pytest.raises(Exception, match="must be an EventMap"):
            Saga[Order](name="order", steps=[step("Pay", paid)], events={})  # type: ignore[arg-type]  # on purpose


async def test_a_secret_of_an_event_is_in_no_repr() -> None:
    @define
    class Charged:
        card: str = secret()

    storage = MemoryStorage()
    act = lambda _: current_step().record(Charged("4711"))  # noqa: E731
    await Saga[Order](name="order", storage=storage, steps=[step("Pay", act)]).run(Order())
    (delivery,) = await waiting(storage)
    assert "4711" in delivery.message.data
    assert "4711" not in repr(delivery)


async def test_a_saga_that_ended_before_records_nothing_again(storage: Storage) -> None:
    saga = Saga[Order](name="order", storage=storage, steps=[step("Pay", paid), step("Send", fails)])
    with pytest.raises(RuntimeError):
        await saga.run(Order(), saga_id="o")
    with pytest.raises(SagaCompensated):
        await saga.run(Order(), saga_id="o")
    assert len(await waiting(storage)) == 1


def _first(_: Paid) -> None: ...


def _second(_: Paid) -> None: ...


def _without_outbox(storage: MemoryStorage) -> Storage:
    """A store that keeps sagas and nothing else."""
    verbs = {name: getattr(storage, name) for name in Storage.__abstractmethods__}
    plain: type[Storage] = type(
        "Plain", (Storage,), {**{name: staticmethod(verb) for name, verb in verbs.items()}, "waits": False}
    )
    return plain()
