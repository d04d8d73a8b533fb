"""Sagas to draw: steps by name, random trees, and names that a diagram could stumble over."""

from __future__ import annotations

from typing import Any

from attrs import define
from hypothesis import strategies as st

from anysaga import CircuitBreaker, Fallback, Parallel, Retry, Saga, Step
from anysaga._composites import Branch

HOSTILE = (
    "end",
    "direction LR",
    "the direction TB of it",
    "Step[Order, list[int]]",
    'say "hi"',
    "a; b",
    "a : b",
    "#quot;",
    "<b>bold</b>",
    "`code`",
    "%%{init: {}}%%",
    "%% comment",
    "style x: #fff;",
    "classDef y: #fff;",
    "graph TD",
    "subgraph",
    "participant x as y",
    "note right of a",
    "class",
    "x --> y",
    "(round)",
    "{curly}",
    "~generic~",
    "-",
    "--",
    "/",
    "/slash/",
    ".",
    ",",
    "_",
    "1",
    "o",
    "$$x^2$$",
    "wrap: text",
    " ",
    "Größe 発注 🍵",
    "é̂",
    "مرحبا",
    "\\",
    "'",
    "@{ shape: rect }",
    "fa:fa-book",
    "- list",
    "1. list",
    "---",
)
names = st.one_of(st.sampled_from(HOSTILE), st.text(min_size=1, max_size=12))
declared_names = names.filter(str.isprintable)


@define
class Order:
    item: str
    counts: list[int]


@define
class Receipt:
    number: int


class Plain(Step[Order, Receipt]):
    """A step that is called what it is told, with whatever else a step can say."""

    def __init__(self, name: str, **options: Any) -> None:
        self.name = name
        for key, value in options.items():
            setattr(self, key, value)

    async def act(self, order: Order) -> Receipt:
        return Receipt(1)

    async def compensate(self, order: Order) -> None: ...


class Look(Step[Order, dict[str, list[int]]]):
    read_only = True

    def __init__(self, name: str) -> None:
        self.name = name

    async def act(self, order: Order) -> dict[str, list[int]]:
        return {}


class Point(Step[Order]):
    pivot = True

    def __init__(self, name: str) -> None:
        self.name = name

    async def act(self, order: Order) -> None: ...


def saga_of(*steps: Branch, name: str = "Shop", timeout: float | None = None) -> Saga[Order]:
    """A saga of these steps."""
    return Saga[Order](name=name, steps=steps, timeout=timeout)


AGAIN = Retry(attempts=5, delay=0.0)
_options: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {}, optional={"timeout": st.sampled_from([0.5, 5.0]), "retry": st.just(AGAIN)}
)


@st.composite
def drawn_sagas(draw: st.DrawFn) -> Saga[Order]:
    """A saga of any shape, whose names may be anything that can be declared."""
    taken: set[str] = set()

    def free() -> str:
        name = draw(declared_names.filter(lambda one: one not in taken))
        taken.add(name)
        return name

    def step() -> Branch:
        return Look(free()) if draw(st.integers(0, 3)) == 0 else Plain(free(), **draw(_options))

    def branch(depth: int, kinds: tuple[str, ...] = ("step", "fallback", "parallel")) -> Branch:
        kind = draw(st.sampled_from(kinds)) if depth else "step"
        if kind == "fallback":
            breaker = draw(st.none() | st.builds(CircuitBreaker))
            caught: Any = draw(st.sampled_from([(), (OSError,), (OSError, ValueError)]))
            return Fallback(branch(depth - 1), branch(depth - 1), caught, breaker)
        if kind == "parallel":
            inside = [branch(depth - 1, ("step", "fallback")) for _ in range(draw(st.integers(1, 3)))]
            return Parallel(*inside, limit=draw(st.none() | st.just(1)))
        return step()

    steps = [branch(3) for _ in range(draw(st.integers(1, 3)))]
    if draw(st.booleans()):
        steps += [Point(free()), Plain(free(), retry=AGAIN)]
    return saga_of(*steps, name=draw(declared_names), timeout=draw(st.none() | st.just(60.0)))
