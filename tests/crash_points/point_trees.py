"""Sagas with branches that are made to crash, and the laws of the world for them."""

from __future__ import annotations

from typing import Any

from anyio.lowlevel import checkpoint
from attrs import define, evolve, field
from point_shapes import BACK, PATIENT, WELL, WORLD
from point_world import Effect, World

from anysaga import Fallback, Outcome, Parallel, Saga, Step, current_step
from anysaga._nodes import FALLBACK, PRIMARY, FallbackNode, Leaf, Node, is_below
from anysaga._opening import fold
from anysaga.abc import EntryKind, SagaRecord


@define
class Parts:
    """A context with a field for each step, so that branches do not meet."""

    a: list[str] = field(factory=list)
    b: list[str] = field(factory=list)
    c: list[str] = field(factory=list)
    d: list[str] = field(factory=list)
    e: list[str] = field(factory=list)


@define(eq=False)
class TreeWorld(World):
    """As `World`; what it knows of branches, it knows from paths and effects alone."""

    acting: list[str] = field(factory=list)

    async def act(self, context: Any) -> None:
        """No fallback begins while anything of its primary is there."""
        path = current_step().path
        for primary in _primaries_before(path):
            if self.live_below(primary):
                self.problems.append(f"I1: {path} acts while {sorted(self.live_below(primary))} is there")
        self.acting.append(path)
        try:
            await super().act(context)
        finally:
            self.acting.remove(path)

    async def undo(self, context: Any) -> None:
        """What came later is undone before, and nothing that goes back along with it acts any more."""
        path = current_step().path
        later = {key for key in self.live if _place(key) > _place(path)}
        if later:
            self.problems.append(f"I1: {path} is undone while {sorted(later)} is there")
        await self._check_own_writes(context)
        if path.count(PRIMARY) == 0 and any(_place(one) == _place(path) for one in self.acting):
            self.problems.append(f"I6: {path} is undone while {self.acting} act")
        await super().undo(context)

    async def _check_own_writes(self, context: Any) -> None:
        """An undo sees what its act wrote, if the end of the act was recorded."""
        step = current_step()
        entries = [entry for entry in (await self.reader.load(step.saga_id)).entries if entry.path == step.path]
        ends = [entry.kind for entry in entries if entry.kind in _OF_ACTS]
        if ends[-1] is not EntryKind.STARTED and f"begin {step.step_name}" not in getattr(context, step.step_name):
            self.problems.append(f"I10: the undo of {step.path} does not see what its act wrote: {context}")

    def live_below(self, top: str) -> set[str]:
        """The effects that are there of the steps at a path and below."""
        return {effect.path for effect in self.effects if effect.key in self.live and is_below(effect.path, top)}

    def remember(self) -> None:
        super().remember()
        self.acting.clear()

    def _check_kept(self, record: SagaRecord, durable: str) -> None:
        """Looked at once the saga has ended: a branch does not see what others wrote."""

    def check_end(self, record: SagaRecord, expected: Any) -> None:
        super().check_end(record, expected)
        progress = fold(self.definition, record, record.summary.fence)
        if record.summary.state is WELL:
            parts: Parts = self.definition.codec.decode(progress.base, where="the context")
            names = {effect.step for effect in self.effects if effect.key in self.live}
            kept = {name for name in "abcde" if f"end {name}" in getattr(parts, name)}
            if names != kept:
                self.problems.append(f"I10: live are {sorted(names)}, and the context knows of {sorted(kept)}")

    def _check_completed(self) -> None:
        for node in self.definition.steps:
            if not self._achieved(node):
                self.problems.append(f"I1: completed, and of {node.path} there is {sorted(self.live_below(node.path))}")

    def _achieved(self, node: Node) -> bool:
        """Whether a node has exactly the effects that it should have."""
        if isinstance(node, Leaf):
            return node.path in self.live_below(node.path)
        if isinstance(node, FallbackNode):
            first, second = node.primary, node.fallback
            return (self._achieved(first) and not self.live_below(second.path)) or (
                self._achieved(second) and not self.live_below(first.path)
            )
        return all(self._achieved(child) for child in node.children)

    def _check_compensated(self) -> None:
        if self.live:
            self.problems.append(f"I1: compensated, and still live are {sorted(self.live)}")

    def _keep(self, effect: Effect) -> None:
        super()._keep(evolve(effect))


_OF_ACTS = {EntryKind.STARTED, EntryKind.DONE, EntryKind.NOT_DONE, EntryKind.UNKNOWN}


def _place(path_or_key: str) -> int:
    path = path_or_key.split(":")[1] if ":" in path_or_key else path_or_key
    return int(path.split("/")[0])


def _primaries_before(path: str) -> list[str]:
    """The primaries that must have gone back before a step acts."""
    parts = path.split("/")
    return ["/".join([*parts[:number], PRIMARY]) for number, part in enumerate(parts) if part == FALLBACK]


class Part(Step[Parts, str]):
    """Writes into its own field before and after its effect."""

    async def act(self, parts: Parts) -> str:
        name = current_step().step_name
        mine: list[str] = getattr(parts, name)
        before = _copy(parts)
        mine.append(f"begin {name}")
        await WORLD.get().act(before)
        await checkpoint()
        mine.append(f"end {name}")
        return name

    async def compensate(self, parts: Parts) -> None:
        await WORLD.get().undo(parts)
        getattr(parts, current_step().step_name).append("undone")


def _copy(parts: Parts) -> Parts:
    return Parts(*[list(getattr(parts, name)) for name in "abcde"])


class A(Part):
    name = "a"


class B(Part):
    name = "b"


class C(Part):
    name = "c"


class D(Part):
    name = "d"


class Failing(Part):
    async def act(self, parts: Parts) -> str:
        await super().act(parts)
        raise ConnectionError("the answer was lost")


class FailingA(Failing):
    name = "a"


class FailingB(Failing):
    name = "b"


class FailingD(Failing):
    name = "d"


class Vain(Part):
    """Fails before it has any effect, which only its probe can tell."""

    name = "a"

    async def act(self, parts: Parts) -> str:
        parts.a.append("begin a")
        raise ConnectionError("no answer")

    async def probe(self, parts: Parts) -> Outcome:
        return Outcome.NOT_DONE


class Tree(Saga[Parts]):
    """As `Shape`, for sagas with branches."""

    compensate_retry = PATIENT
    end = WELL
    may_turn_back = False
    world = TreeWorld

    @staticmethod
    def begin() -> Parts:
        return Parts()


class FallbackWell(Tree):
    steps = [A, Fallback(FailingB, C), D]


class FallbackBack(Tree):
    steps = [A, Fallback(FailingB, C), FailingD]
    end = BACK


class PrimaryWell(Tree):
    steps = [Fallback(A, B), D]


class ProbedWell(Tree):
    steps = [Fallback(Vain, B), D]


class NestedWell(Tree):
    steps = [Fallback(Fallback(FailingA, FailingB), C), D]


class NestedBack(Tree):
    steps = [Fallback(FailingA, Fallback(FailingB, C)), FailingD]
    end = BACK


class ParallelWell(Tree):
    steps = [Parallel(A, B, C, limit=2), D]


class ParallelBack(Tree):
    steps = [A, Parallel(B, C), FailingD]
    end = BACK


class ParallelFails(Tree):
    steps = [D, Parallel(A, FailingB, C)]
    end = BACK


class ParallelInFallbackWell(Tree):
    steps = [Fallback(Parallel(A, FailingB), C), D]


class ParallelInFallbackBack(Tree):
    steps = [Fallback(Parallel(A, FailingB), C), FailingD]
    end = BACK


class FallbackInParallelWell(Tree):
    steps = [Parallel(Fallback(FailingA, B), C), D]


class FallbackInParallelBack(Tree):
    steps = [Parallel(Fallback(FailingA, B), C), FailingD]
    end = BACK


TREES: list[type[Tree]] = [
    FallbackWell,
    FallbackBack,
    PrimaryWell,
    ProbedWell,
    NestedWell,
    NestedBack,
    ParallelWell,
    ParallelBack,
    ParallelFails,
    ParallelInFallbackWell,
    ParallelInFallbackBack,
    FallbackInParallelWell,
    FallbackInParallelBack,
]
