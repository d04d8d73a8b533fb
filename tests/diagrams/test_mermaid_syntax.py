"""The real Mermaid parser accepts what we write, and what our pages show."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from attrs import field, make_class
from drawn_sagas import HOSTILE, Plain, drawn_sagas, saga_of
from hypothesis import given, settings
from mermaid_parser import MermaidParser

from anysaga import Saga, SagaMermaid, Step

ROOT = Path(__file__).parents[2]
BLOCKS = [
    pytest.param(block, id=f"{page.name}-{number}")
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    for number, block in enumerate(re.findall(r"```mermaid\n(.*?)```", page.read_text("utf-8"), re.DOTALL), start=1)
]


def check(parser: MermaidParser, saga: SagaMermaid) -> None:
    assert parser.type_of(saga.sequence()) == "sequence"
    assert parser.type_of(saga.class_diagram()) in {"class", "classDiagram"}
    assert parser.type_of(saga.flow()) == "flowchart-v2"


def test_the_parser_refuses_what_is_wrong(parser: MermaidParser) -> None:
    """It is no parser that accepts everything."""
    with pytest.raises(AssertionError, match="Parse error"):
        parser.type_of("flowchart TD\n a[[[")


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names(parser: MermaidParser, name: str) -> None:
    """A name of a saga, a step or a type may be anything."""
    context = make_class("Context", {"item": field(type=str)})
    answer = make_class("Answer", {"item": field(type=str)})
    context.__name__ = answer.__name__ = name

    class Named(Step[context, answer]):  # type: ignore[valid-type]
        pass

    step = type(name, (Named,), {"act": lambda _, context: None, "compensate": lambda _, context: None})
    check(parser, SagaMermaid(Saga[context](name=name, steps=[step])))  # type: ignore[valid-type]


@settings(max_examples=40)
@given(saga=drawn_sagas())
def test_every_saga(parser: MermaidParser, saga: Saga[object]) -> None:
    """Every nesting of steps, Fallbacks and Parallels is valid."""
    check(parser, SagaMermaid(saga))


def test_a_long_saga(parser: MermaidParser) -> None:
    """A saga may have many steps, up to what Mermaid takes in one diagram."""
    check(parser, SagaMermaid(saga_of(*(Plain(f"step {number}") for number in range(100)))))


@pytest.mark.parametrize("block", BLOCKS)
def test_pages(parser: MermaidParser, block: str) -> None:
    """Each diagram of the README and the docs is valid."""
    assert parser.type_of(block)
