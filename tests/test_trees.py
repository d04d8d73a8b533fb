"""The promises of a saga of Fallbacks and Parallels, in every world."""

from __future__ import annotations

from typing import Any

from hypothesis import event, given, note, settings
from hypothesis import strategies as st
from saga_model import PlannedStep, Undoing
from saga_play import name_of, step_of
from tree_play import CaughtError, TreePlay, paths, tree_of

from anysaga._composites import Branch, Fallback, Parallel
from anysaga._definition import Definition
from anysaga._records import SagaState


@st.composite
def planned(draw: st.DrawFn, *, retried: bool) -> PlannedStep:
    undoing = draw(st.sampled_from([Undoing.PLAIN, Undoing.PLAIN, Undoing.PLAIN, Undoing.READ_ONLY]))
    retry = draw(st.integers(1, 3) if retried else st.none() | st.integers(1, 3))
    return PlannedStep(undoing, retry, draw(st.booleans()), draw(st.integers(1, 2)))


@st.composite
def trees(draw: st.DrawFn) -> Definition:
    """Any saga of up to three nodes, nested up to three deep; after its pivot, every step can be retried."""
    count = 0

    def step(plan: PlannedStep) -> Branch:
        nonlocal count
        count += 1
        return step_of(plan, name_of(count - 1))

    def part(depth: int, *, retried: bool, in_parallel: bool = False) -> Branch:
        kinds = ["step", "fallback"] if in_parallel else ["step", "fallback", "parallel"]
        kind = draw(st.sampled_from(kinds)) if depth else "step"
        if kind == "fallback":
            kinds_caught: Any = draw(st.sampled_from([(), (CaughtError,)]))
            return Fallback(part(depth - 1, retried=retried), part(depth - 1, retried=retried), kinds_caught)
        if kind == "parallel":
            size, limit = draw(st.integers(1, 3)), draw(st.none() | st.integers(1, 2))
            children = [part(depth - 1, retried=retried, in_parallel=True) for _ in range(size)]
            return Parallel(*children, limit=limit)
        return step(draw(planned(retried=retried)))

    passed = False
    steps: list[Branch] = []
    for _ in range(draw(st.integers(1, 3))):
        if draw(st.integers(0, 7)) == 7:
            steps.append(step(PlannedStep(Undoing.PIVOT, draw(st.integers(1, 3)), draw(st.booleans()))))
            passed = True
        else:
            steps.append(part(3, retried=passed))
    return tree_of(*steps, goes_on=draw(st.booleans()))


numbers = st.integers(0, 5039)  # as many as can be divided by every count of choices
worlds = st.lists(numbers, max_size=20) | st.lists(numbers, min_size=40, max_size=120)


@settings(max_examples=400)
@given(trees(), worlds)
def test_the_promises_hold_in_every_tree(definition: Definition, world: list[int]) -> None:
    """I1, and what `TreePlay` checks at each call: intents, BACKs, order, contexts, and that deciding is pure."""
    play = TreePlay(definition, list(world))
    note(definition.outline)
    try:
        end = play.play()
    finally:
        note("\n".join(str(entry) for entry in play.log))

    assert end in (SagaState.COMPLETED, SagaState.COMPENSATED)
    if end is SagaState.COMPLETED:
        assert all(play.achieved(node) for node in definition.steps)
        assert set(paths(play.progress.chosen)) == play.live & set(paths(play.progress.done)) - abandoned(play)
    else:
        assert not play.live_below("")
    event(end)


def abandoned(play: TreePlay) -> set[str]:
    return {leaf.path for leaf in play.definition.leaves if not play.is_chosen(leaf)}
