"""Carries decisions out, one after another: for the saga as a whole, and for each branch of a Parallel."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from functools import partial

from anyio import current_time, sleep_until
from anyio.lowlevel import checkpoint_if_cancelled
from attrs import define

from anysaga._decisions import (
    Act,
    Back,
    Compensate,
    Decision,
    Fork,
    ForkUndo,
    GiveUp,
    Park,
    Probe,
    can_go_back,
    decide_branch,
    decide_undo,
    uncalled,
)
from anysaga._errors import SagaTimeout
from anysaga._journal import Journal
from anysaga._nodes import ROOT, Leaf, Node, ParallelNode, is_below
from anysaga._progress import Progress
from anysaga._records import EntryKind
from anysaga._shield import run_shielded
from anysaga._stepping import Stepping
from anysaga._together import run_together


@define(eq=False, repr=False)
class Lane:
    """Turns decisions into calls and entries. `stepping` calls steps on the context of `scope`."""

    journal: Journal
    stepping: Stepping
    scope: str = ROOT

    @property
    def _progress(self) -> Progress:
        return self.journal.progress

    def is_ready(self, decision: Act) -> bool:
        """Whether there is nothing to prepare. Asked first, since most acts are, and a coroutine costs more."""
        return decision.intent_written and self.stepping.deadline == math.inf and self.journal.is_settled

    async def prepare(self, decision: Act) -> bool:
        """Make the intent of an act durable. False if something else must be decided first."""
        if self.stepping.deadline != math.inf and self._expired():
            self._expire()
            return False
        journal = self.journal
        if decision.intent_written:
            if not journal.is_settled:
                await journal.commit()
            return True
        if decision.not_before and decision.not_before > journal.now():
            await self._pause_until(decision.not_before, self._deadline)
            if self._expired():
                return False
        if decision.leaf.pivot and journal.pending:
            await journal.commit()
            if self.stepping.run.pauses:
                return True
        self.intend(decision)
        await journal.commit()
        return True

    async def _pause_until(self, moment: int, deadline: float = math.inf) -> None:
        """Wait for an attempt's turn. What is noted is durable before, and the store knows when the saga is due.

        A branch cannot say when: the others go on meanwhile, and are not to be left alone if this process dies.
        """
        wakes = min(self.journal.until(moment), deadline)
        await self.journal.commit(wait=0.0 if self.scope else max(wakes - current_time(), 0.0))
        self.stepping.run.waiting += 1
        try:
            await sleep_until(wakes)
        finally:
            self.stepping.run.waiting -= 1

    def intend(self, decision: Act) -> None:
        """Note the intent to act."""
        self.journal.note(EntryKind.STARTED, decision.leaf.path, attempt=decision.attempt)

    def intend_fork(self, fork: Fork) -> None:
        """Note the intents of those branches that act first, so that one commit makes all of them durable."""
        for _, decision in fork.left[: fork.node.limit]:
            if isinstance(decision, Act) and not decision.intent_written and not decision.not_before:
                self.intend(decision)

    async def carry_out(self, decision: Decision) -> None:
        """Carry out any decision for a way forward but an act."""
        match decision:
            case Probe() if self._expired():
                self._expire()
            case Probe(leaf):
                await self._probe(leaf)
            case Back(path, cause):
                self.go_back(path, cause)
            case Fork():
                self.intend_fork(decision)
                await self.journal.commit()
                await self.fork(decision)
            case Compensate() | GiveUp() | ForkUndo():
                # A primary is undone as a whole saga is: a cancellation leaves it the time of the grace.
                await run_shielded(partial(self.undo, decision), self._progress.definition.grace)
                await checkpoint_if_cancelled()
            case _:  # pragma: no cover - ends are the driver's
                raise AssertionError(decision)

    async def undo(self, decision: Decision) -> None:
        """Carry out any decision for a way back."""
        match decision:
            case Compensate():
                await self._compensate(decision)
            case GiveUp(leaf, attempts, cause):
                self.journal.note(EntryKind.UNDO_FAILED, leaf.path, attempt=attempts, error=cause)
            case Probe(leaf):
                await self._probe(leaf)
            case ForkUndo(node):
                await self._fork_undo(node)
            case _:  # pragma: no cover - never decided below a BACK
                raise AssertionError(decision)

    def go_back(self, path: str, cause: str) -> None:
        """Note that everything at `path` and below goes back, and stop what still runs there."""
        self.withdraw(path)
        self.journal.note(EntryKind.BACK, path, error=cause)
        self.stepping.run.goes_back(path)
        self.stepping.run.stop_forks(path)

    def withdraw(self, path: str = ROOT) -> None:
        """Withdraw the intents below `path` that were not used."""
        progress = self._progress
        if progress.parked is not None or progress.end is not None:
            return
        for leaf in uncalled(progress):
            if leaf.path not in self.stepping.run.in_call and is_below(leaf.path, path):
                self.journal.note(EntryKind.WITHDRAWN, leaf.path)

    async def _probe(self, leaf: Leaf) -> None:
        await self.journal.commit()
        await self.stepping.probe(leaf)

    async def _compensate(self, decision: Compensate) -> None:
        journal = self.journal
        if not decision.intent_written:
            if decision.not_before and decision.not_before > journal.now():
                await self._pause_until(decision.not_before)
            journal.note(EntryKind.UNDO_STARTED, decision.leaf.path, attempt=decision.attempt)
        await journal.commit()
        await self.stepping.compensate(decision)

    async def fork(self, fork: Fork) -> None:
        """Let branches go on side by side until each is done, or waits for a person, or all go back."""
        node = fork.node

        def branch(child: Node) -> Awaitable[None]:
            return self._branch(child)._go_on(child, decide_branch, Lane.carry_out)

        await run_together(
            [child for child, _ in fork.left],
            branch,
            limit=node.limit,
            after=partial(self._settle, node),
            scopes=partial(self.stepping.run.forks.__setitem__, node.path),
        )
        self.stepping.context.bring_to(self._progress.context_at(self.scope).base)

    async def _fork_undo(self, node: ParallelNode) -> None:
        def branch(child: Node) -> Awaitable[None]:
            return self._branch(child)._go_on(child, decide_undo, Lane.undo)

        children = [child for child in node.children if decide_undo(self._progress, child) is not None]
        await run_together(children, branch, limit=node.limit, after=self.journal.commit)
        self.stepping.context.bring_to(self._progress.context_at(self.scope).current)

    async def _go_on(
        self,
        node: Node,
        decide: Callable[[Progress, Node], Decision | None],
        carry_out: Callable[[Lane, Decision], Awaitable[None]],
    ) -> None:
        progress, run = self._progress, self.stepping.run
        while not run.parks:
            decision = decide(progress, node)
            if isinstance(decision, Act):
                if self.is_ready(decision) or await self.prepare(decision):
                    back = await self.stepping.act(decision.leaf, decision.attempt)
                    if back is not None:
                        self.go_back(back.path, back.cause)
            elif decision is None or isinstance(decision, Park):
                return
            else:
                await carry_out(self, decision)

    async def _settle(self, node: ParallelNode) -> None:
        """Make the end of a branch durable; that of the last one becomes so together with what comes next."""
        progress = self._progress
        if not progress.is_done(node) and not progress.is_back(node.path):
            await self.journal.commit()

    def _branch(self, child: Node) -> Lane:
        scope = child.path if child.path in self._progress.copies else self.scope
        text = self._progress.context_at(scope).base
        return Lane(self.journal, self.stepping.branch(text), child.path)

    @property
    def _deadline(self) -> float:
        """The saga's, as long as it can go back."""
        deadline = self.stepping.deadline
        return deadline if deadline != math.inf and can_go_back(self._progress) else math.inf

    def _expired(self) -> bool:
        deadline = self._deadline
        return deadline != math.inf and current_time() >= deadline

    def _expire(self) -> None:
        definition = self._progress.definition
        error = SagaTimeout(definition.name, self.journal.saga_id, self.stepping.run.limit)
        self.stepping.run.expired(error)
        self.go_back(ROOT, f"{type(error).__name__}: {error}")
