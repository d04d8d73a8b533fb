"""The benchmarks run. What they measure is no test's business."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import anysaga

ROOT = Path(__file__).parent.parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(anysaga.__file__).parent.parent)}

# In the words of a quick run.
CASES = [
    "in memory, 3 steps",
    "SQLite FULL, 3 steps, one at a time",
    "SQLite FULL, 3 steps, 3 at once",
    "a step, in memory, trio",
    "a step, SQLite FULL, trio",
    "Kafka, batches of 200",
    "import",
    "20 sagas in flight, asyncio",
    "100 interrupted sagas, 100 at once, asyncio",
    "beside 50 finished sagas, one at a time, trio",
]
WITHOUT_PEERS = "import sys; sys.modules.update(cqrs=None, dbos=None); from benchmarks.__main__ import main; main({})"


def run(*arguments: str) -> list[list[str]]:
    """Run Python where the benchmarks are; returns the cells of the tables that it prints."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines() if line[:1] == "|"]


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Give a way to the modules of the benchmarks, which are no part of what is installed."""
    monkeypatch.syspath_prepend(ROOT)
    return lambda name: import_module(f"benchmarks.{name}")


def test_a_quick_run_prints_every_case() -> None:
    """`--quick` runs all cases, those that take long too, and judges none of them."""
    rows = run("-m", "benchmarks", "--quick")
    figures = {row[0]: row[2] for row in rows[2:] if row[0]}

    assert [case for case in CASES if not figures.get(case)] == []
    assert {row[5] for row in rows[2:]} == {""}


def test_a_peer_that_is_missing_is_a_row() -> None:
    """Without the other libraries all else is measured, and the ratios to them are not."""
    rows = run("-c", WITHOUT_PEERS.format(["--quick", "--only", "memory", "--only", "sqlite"]))
    peers = [row[1:3] for row in rows if row[1].startswith(("python-cqrs", "DBOS"))]
    ours = [row for row in rows if row[1] in ("asyncio", "threads, trio")]

    assert [cost for _, cost in peers] == ["not installed"] * 4
    assert all(row[2].endswith("a saga") for row in ours)
    assert "speed of DBOS with WAL: not measured" in [row[3] for row in rows]


@pytest.mark.parametrize(("case", "layers"), [("memory", 3), ("sqlite", 6), ("sqlite-at-once", 5)])
def test_a_profile_shows_every_layer(case: str, layers: int) -> None:
    """Each layer that the case has gets a share of the time, on both loops."""
    rows = run("-m", "benchmarks", "--quick", "--profile", case)
    shares = [row for row in rows if row[2].endswith("%")]

    assert len(shares) == 2 * layers


def test_a_target_for_the_cost_is_an_upper_limit(module: Callable[[str], Any]) -> None:
    """Twice the cost of the base misses a limit of 1.5 and keeps one of 2.5."""
    target = module("_harness").Target

    assert target.of_cost("bare", at_most=1.5).judge(2.0).kept is False
    assert target.of_cost("bare", at_most=2.5).judge(2.0).kept is True


def test_a_target_for_the_speed_is_a_lower_limit(module: Callable[[str], Any]) -> None:
    """A quarter of the peer's cost is four times its speed: enough for 3, too little for 5."""
    target = module("_harness").Target

    assert target.of_speed("peer", at_least=3).judge(0.25).kept is True
    assert target.of_speed("peer", at_least=5).judge(0.25).kept is False


def test_subjects_take_turns(module: Callable[[str], Any]) -> None:
    """Each round runs all subjects once; the first round, which warms up, does not count."""
    harness = module("_harness")
    turns: list[str] = []

    def costs(name: str, first: float) -> Callable[[], float]:
        figures = iter([100.0, first, first + 1, first + 2])

        def cost() -> float:
            turns.append(name)
            return next(figures)

        return cost

    figures = harness.take_turns(
        [
            harness.Subject("one", costs("one", 2)),
            harness.Subject("gone", None),
            harness.Subject("two", costs("two", 4)),
        ],
        harness.Scale(),
        rounds=3,
    )

    assert turns == ["one", "two"] * 4
    assert (figures.cost("one"), figures.cost("two"), figures.cost("gone")) == (3, 5, None)
    assert figures.times("two", "one") == pytest.approx(5 / 3)
    assert figures.times("two", "gone") is None


@pytest.mark.parametrize(
    ("targets", "judged", "reached"),
    [([True, None], True, True), ([True, False], True, False), ([True, False], False, True)],
)
def test_one_missed_target_is_enough(
    module: Callable[[str], Any],
    targets: list[bool | None],
    judged: bool,
    reached: bool,
) -> None:
    """The table says whether all targets are reached, unless nothing is judged."""
    table = module("_table")
    comparisons = [table.Comparison("ratio", "target", kept) for kept in targets]
    rows = [table.Row("case", "base", "1 ms"), table.Row("case", "subject", "1 ms", comparisons)]

    assert table.print_table(rows, judged=judged) is reached
