"""The table that is printed: Markdown, a line for each comparison."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from attrs import frozen

_MILLISECOND = 1000


@frozen
class Comparison:
    """A ratio in words, its target in words, and whether it is reached; None: there is nothing to reach."""

    ratio: str
    target: str
    kept: bool | None = None


@frozen
class Row:
    """What one subject of a case costs, and how that compares."""

    case: str
    subject: str
    cost: str
    comparisons: Sequence[Comparison] = ()


def limited(cost: float, most: float, unit: Callable[[float], str]) -> Comparison:
    """A figure that is held against a number."""
    return Comparison("", f"<= {unit(most)}", cost <= most)


def print_table(rows: Iterable[Row], *, judged: bool) -> bool:
    """Print rows as they come. Returns whether all targets are reached; unless `judged`, nothing is said of them."""
    reached = True
    _line("case", "subject", "cost", "ratio", "target", "reached")
    _line("---", "---", "--:", "---", "---", "---")
    for row in rows:
        head = (row.case, row.subject, row.cost)
        for comparison in row.comparisons or [Comparison("", "")]:
            kept = comparison.kept if judged else None
            reached = reached and kept is not False
            _line(*head, comparison.ratio, comparison.target, {None: "", True: "yes", False: "NO"}[kept])
            head = ("", "", "")
    return reached


def seconds_a(thing: str) -> Callable[[float], str]:
    """How a time for each such thing is written."""
    return lambda seconds: f"{duration(seconds)} a {thing}"


def kibibytes(size: float) -> str:
    """How a size is written."""
    return f"{size:.1f} KiB"


def duration(seconds: float) -> str:
    """A time with a unit that suits it."""
    microseconds = round(seconds * 1_000_000)
    return f"{microseconds} µs" if microseconds < _MILLISECOND else f"{seconds * 1000:.2f} ms"


def _line(*cells: str) -> None:
    print(f"| {' | '.join(cells)} |", flush=True)
