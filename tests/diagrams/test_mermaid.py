"""What the diagrams of a saga say."""

from __future__ import annotations

import re
from typing import Any, cast

import pytest
from drawn_sagas import AGAIN, Look, Order, Plain, Point, drawn_sagas, names, saga_of
from hypothesis import given, settings

from anysaga import CircuitBreaker, Fallback, InvalidArgument, Parallel, Saga, SagaMermaid
from anysaga.diagrams._text import label

ACT, UNDO = r"saga->>(\w+): act", r"saga->>(\w+): compensate"


class ShopSaga(Saga[Order]):
    steps = (Plain("a"), Plain("b"))


class Empty(Saga[Order]):
    pass


def sequence(*steps: Any) -> str:
    return SagaMermaid(saga_of(*steps)).sequence()


def flow(*steps: Any) -> str:
    return SagaMermaid(saga_of(*steps)).flow()


def section(text: str, begin: str) -> str:
    """What stands behind the line with `begin`."""
    return text.partition(begin)[2]


@given(names)
def test_labels_keep_every_character(name: str) -> None:
    """A label says the name, with entities for what Mermaid could misunderstand."""
    shown = re.sub(r"#(\d+);", lambda match: chr(int(match[1])), label(name))
    assert shown == (name.strip() or "\N{OPEN BOX}")


@settings(max_examples=40)
@given(drawn_sagas())
def test_every_step_is_in_every_diagram(saga: Saga[Order]) -> None:
    """Whatever the shape, each step is declared once by its own id and name."""
    drawn = SagaMermaid(saga)
    sequence, classes, flow = drawn.sequence(), drawn.class_diagram(), drawn.flow()
    for leaf in saga.definition.leaves:
        name, path = label(leaf.name), leaf.path.replace("/", "_")
        assert sequence.count(f"participant s{path} as {name}\n") == 1
        assert classes.count(f'class n{path}["{name}"] {{') == 1
        assert len(re.findall(rf'^ +n{path}\W+"{re.escape(name)}["<]', flow, re.MULTILINE)) == 1


@settings(max_examples=40)
@given(drawn_sagas())
def test_steps_act_in_their_order(saga: Saga[Order]) -> None:
    """The acts of a sequence are those of the declaration, each once, in its order."""
    assert re.findall(ACT, SagaMermaid(saga).sequence()) == [
        f"s{leaf.path.replace('/', '_')}" for leaf in saga.definition.leaves
    ]


def test_undone_in_reverse() -> None:
    """What is undone is undone in reverse, and a step that only reads is not."""
    text = sequence(Plain("a"), Look("b"), Plain("c"))
    assert re.findall(UNDO, section(text, "else a step fails\n")) == ["s3", "s1"]


def test_flow_goes_back_in_reverse() -> None:
    """A failing step leads to its own undo, one without an undo to that before it, and all to the end."""
    text = flow(Plain("a"), Look("b"), Plain("c"))
    for arrow in ('n1 -. "fails" .-> u1', 'n2 -. "fails" .-> u1', 'n3 -. "fails" .-> u3', "u3 -.-> u1"):
        assert arrow in text
    assert "u1 -.-> compensated" in text


def test_nothing_is_undone_from_a_pivot_on() -> None:
    """A pivot and what follows it are not undone: the pivot in doubt is parked, and so is what fails after it."""
    steps = Plain("a"), Point("pay"), Plain("c", retry=AGAIN)
    assert re.findall(UNDO, section(sequence(*steps), "else a step fails before pay is done")) == ["s1"]
    text = flow(*steps)
    assert 'n2 -. "unknown" .-> parked' in text
    assert 'n2 -. "not done" .-> u1' in text
    assert 'n3 -. "fails" .-> parked' in text
    assert "u3" not in text


def test_a_saga_that_undoes_nothing() -> None:
    """Where nothing can be undone there is no way back to draw."""
    assert "alt" not in sequence(Look("a"))
    assert 'n1 -. "fails" .-> compensated' in flow(Look("a"))
    assert "parked" not in flow(Look("a"))


def test_fallback() -> None:
    """A primary is undone before its fallback acts, and later whichever acted; the diagram says when it takes over."""
    breaker = CircuitBreaker(fail_max=2, reset_timeout=30)
    text = sequence(Fallback(Plain("a"), Plain("b"), failure_exceptions=(OSError,), circuit_breaker=breaker))
    assert "alt Fallback, circuit breaker, opens after 2 failures for 30 s" in text
    takes_over = section(text, "else on OSError, or an open circuit")
    assert takes_over.index("saga->>s1_primary: compensate") < takes_over.index("saga->>s1_fallback: act")
    assert re.findall(UNDO, section(text, "else a step fails")) == ["s1_fallback", "s1_primary"]


def test_fallbacks_in_fallbacks_know_their_own_breakers() -> None:
    """An open circuit leads to the fallback of the innermost primary, wherever the breaker was given."""
    inner = Fallback(Plain("a"), Plain("b"), circuit_breaker=CircuitBreaker())
    classes = SagaMermaid(saga_of(Fallback(inner, Plain("c")))).class_diagram()
    assert "any error, or an open circuit" in section(classes, "n1_primary[")
    assert "open circuit" not in section(classes, "n1[").partition("}")[0]


def test_parallel() -> None:
    """Branches act side by side within their limit, and are undone side by side."""
    text = sequence(Parallel(Plain("a"), Look("b"), Plain("c"), limit=2))
    forwards, backwards = text.split("else a step fails")
    assert "par Parallel, at most 2 at once" in forwards
    assert forwards.count("and\n") == 2
    assert "par undone side by side" in backwards
    assert re.findall(UNDO, backwards) == ["s1_1", "s1_3"]
    assert 'subgraph n1["Parallel, all at once"]' in flow(Parallel(Plain("a"), Plain("b")))


def test_limits_and_retries_are_told() -> None:
    """A reader sees how long a step may take, and how often it is tried."""
    step = Plain("a", timeout=0.5, retry=AGAIN)
    assert "saga->>s1: act, at most 0.5 s, up to 5 attempts" in sequence(step)
    assert 'n1["a<br/>at most 0.5 s<br/>up to 5 attempts"]' in flow(step)
    assert "saga->>s1: compensate, up to 3 attempts" in sequence(step)
    timed = SagaMermaid(saga_of(Plain("a"), timeout=60))
    for text in (timed.sequence(), timed.flow(), timed.class_diagram()):
        assert "forwards at most 60 s" in text


def test_classes_show_types() -> None:
    """The context and the responses are shown with their fields, and each step with what it takes and answers."""
    text = SagaMermaid(saga_of(Plain("a"), Plain("b"), Look("c"))).class_diagram()
    assert "+counts list#91;int#93;" in text
    assert text.count('["Receipt"] {') == 1
    assert text.count(" ..> r1") == 2
    assert "+act(Order) Receipt" in text
    assert "+act(Order) dict#91;str, list#91;int#93;#93;" in text


def test_a_class_and_its_saga_look_the_same() -> None:
    """A saga class is drawn without making one of it."""
    assert SagaMermaid(ShopSaga).flow() == SagaMermaid(ShopSaga()).flow()


@pytest.mark.parametrize("saga", [Empty, Plain("a"), Plain, None, "ShopSaga"])
def test_what_is_no_saga_is_refused(saga: object) -> None:
    """What has no steps cannot be drawn."""
    with pytest.raises(InvalidArgument, match=r"derived from anysaga\.Saga that has `steps`"):
        SagaMermaid(cast("Any", saga))
