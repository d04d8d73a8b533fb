"""A stored log as events for who watches: a table."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import define, evolve

from anysaga import Saga, SagaState, Step, secret
from anysaga._records import Outcome
from anysaga._snapshot import digest
from anysaga.abc import Entry, EntryKind, SagaRecord, SagaSummary
from anysaga.integrations._progress_events import ProgressEvent, progress_events, start_event


@define
class Order:
    item: str = "tea"


@define
class Receipt:
    number: int
    card: str = secret(default="4111")


class Reserve(Step[Order, str]):
    async def act(self, order: Order) -> str:
        return "shelf 4"

    async def compensate(self, order: Order) -> None: ...


class Charge(Step[Order, Receipt]):
    async def act(self, order: Order) -> Receipt:
        return Receipt(1)

    async def compensate(self, order: Order) -> None: ...


class OrderSaga(Saga[Order]):
    name = "order"
    steps = (Reserve, Charge)


DEFINITION = OrderSaga().definition
OUTLINE = DEFINITION.outline
BRANCHED = '[["1/primary","A","step"],["1/fallback","B","step"],["2/1","C","step"]]'


def record_of(*entries: Entry, state: SagaState = SagaState.RUNNING, outline: str = OUTLINE) -> SagaRecord:
    """A stored saga with this log; its seqs are counted here."""
    log = tuple(evolve(entry, seq=seq) for seq, entry in enumerate(entries, 1))
    summary = SagaSummary("o", "order", 1, state, 1, len(log), None, 0, 0, 0, 0)
    return SagaRecord(summary, outline, digest("{}"), "{}", log)


def short(events: list[ProgressEvent]) -> list[str]:
    """``id type step``, as far as an event has them."""
    return [
        " ".join(str(part) for part in (event.id, event.data["type"], event.data.get("step", "")) if part != "")
        for event in events
    ]


def done(path: str, **more: Any) -> Entry:
    return Entry(EntryKind.DONE, path, attempt=1, duration=0.5, **more)


def of(kind: EntryKind, path: str = "", **more: Any) -> Entry:
    return Entry(kind, path, **more)


K, NOT_DONE = EntryKind, Outcome.NOT_DONE
LOGS = {
    "nothing yet": (record_of(state=SagaState.PENDING), ["0 start"]),
    "an attempt is no news": (record_of(of(K.STARTED, "1", attempt=1), of(K.UNKNOWN, "1", error="no")), ["0 start"]),
    "completed": (
        record_of(done("1"), done("2"), of(K.COMPLETED), state=SagaState.COMPLETED),
        ["0 start", "1 step Reserve", "2 step Charge", "3 end"],
    ),
    "compensated": (
        record_of(
            done("1"),
            of(K.BACK, error="no"),
            of(K.UNDO_STARTED, "1", attempt=1),
            of(K.UNDONE, "1"),
            of(K.COMPENSATED, error="no"),
            state=SagaState.COMPENSATED,
        ),
        ["0 start", "1 step Reserve", "4 compensation Reserve", "None error", "5 end"],
    ),
    "parked": (
        record_of(done("1"), of(K.PARKED, "2", error="no"), state=SagaState.PARKED),
        ["0 start", "1 step Reserve", "None error Charge", "2 end"],
    ),
    "parked, and then a note": (
        record_of(of(K.PARKED, error="no"), of(K.NOTE), state=SagaState.PARKED),
        ["0 start", "1 error", "2 end"],
    ),
    "parked, and taken up again": (
        record_of(of(K.PARKED, "1", error="no"), of(K.RETRIED, "1"), done("1")),
        ["0 start", "1 error Reserve", "3 step Reserve"],
    ),
    "abandoned": (
        record_of(of(K.ABANDONED, error="enough"), state=SagaState.ABANDONED),
        ["0 start", "None error", "1 end"],
    ),
    "a probe says that it is done": (
        record_of(of(K.UNKNOWN, "1", error="no"), of(K.PROBED, "1", outcome=Outcome.DONE)),
        ["0 start", "2 step Reserve"],
    ),
    "a probe that does not know is no news": (
        record_of(of(K.PROBED, "1", outcome=Outcome.UNKNOWN), of(K.PROBED, "1", outcome=Outcome.NOT_DONE)),
        ["0 start"],
    ),
    "a person says that an undo took effect": (
        record_of(
            done("1"),
            of(K.UNDO_STARTED, "1"),
            of(K.UNDO_FAILED, "1", error="no"),
            of(K.PARKED, "1", error="no"),
            of(K.RESOLVED, "1", outcome=Outcome.NOT_DONE),
        ),
        ["0 start", "1 step Reserve", "4 error Reserve", "5 compensation Reserve"],
    ),
    "a person says of a done step that it is done": (
        record_of(done("1"), of(K.UNDO_STARTED, "1"), of(K.RESOLVED, "1", outcome=Outcome.DONE)),
        ["0 start", "1 step Reserve"],
    ),
    "a person says that an act took no effect": (
        record_of(of(K.UNKNOWN, "1", error="no"), of(K.PARKED, "1", error="no"), of(K.RESOLVED, "1", outcome=NOT_DONE)),
        ["0 start", "2 error Reserve"],
    ),
    "a response that was damaged is left out": (
        record_of(done("1", response="{"), done("2")),
        ["0 start", "1 step Reserve", "2 step Charge"],
    ),
    "steps whose outline was damaged have their paths": (record_of(done("1"), outline="["), ["0 start", "1 step 1"]),
    "a step that the outline does not know has its path": (record_of(done("7")), ["0 start", "1 step 7"]),
}


@pytest.mark.parametrize("name", LOGS)
def test_a_log_tells(name: str) -> None:
    record, told = LOGS[name]
    assert short(progress_events(record, DEFINITION)) == told


@pytest.mark.parametrize("name", LOGS)
def test_from_any_event_on_exactly_the_rest_is_told(name: str) -> None:
    everything = progress_events(LOGS[name][0], DEFINITION)
    for at, event in enumerate(everything):
        if event.id is not None:
            assert progress_events(LOGS[name][0], DEFINITION, after=event.id) == everything[at + 1 :]


def test_a_step_says_how_it_was_done() -> None:
    """Its attempts count the lost ones, and its source is the branch that did the work."""
    entries = [of(K.STARTED, "1/fallback", attempt=1), of(K.STARTED, "1/fallback", attempt=2), done("1/fallback")]
    record = record_of(*entries, done("2/1"), outline=BRANCHED)
    _, fallback, plain = (event.data for event in progress_events(record))
    assert fallback == {
        "type": "step",
        "saga_id": "o",
        "step": "B",
        "path": "1/fallback",
        "attempts": 2,
        "duration": 0.5,
        "source": "fallback",
    }
    assert (plain["attempts"], plain["source"]) == (1, "step")


def test_responses_are_told_unless_they_may_hold_a_secret() -> None:
    record = record_of(done("1", response='"shelf 4"'), done("2", response='{"number":1,"card":"4111"}'))
    _, reserve, charge = (event.data for event in progress_events(record, DEFINITION))
    assert reserve["response"] == "shelf 4"
    assert "response" not in charge


@pytest.mark.parametrize("definition", [None, evolve(DEFINITION, version=2)])
def test_without_a_definition_that_fits_no_response_is_told(definition: Any) -> None:
    record = record_of(done("1", response='"shelf 4"'))
    assert "response" not in progress_events(record, definition)[1].data


def test_the_text_of_an_event_is_one_line_of_data() -> None:
    """Whatever is in it: a line break would end it."""
    assert ProgressEvent(3, {"error": "a\nb\r\u2028é"}).as_text() == (
        'id: 3\ndata: {"error":"a\\nb\\r\\u2028\\u00e9"}\n\n'
    )
    assert start_event("o", "order", BRANCHED).as_text() == (
        'id: 0\ndata: {"type":"start","saga_id":"o","saga":"order","steps":["A","B","C"]}\n\n'
    )
