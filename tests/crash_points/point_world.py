"""The world outside the store: what really happened, and the laws that it must obey."""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from anyio.lowlevel import checkpoint
from attrs import asdict, define, field, frozen

from anysaga import NotDone, SagaState, current_step
from anysaga._definition import Definition
from anysaga._opening import fold
from anysaga.abc import EntryKind, SagaRecord, Storage


class Died(GeneratorExit):
    """The process ends here: nothing that it still tries has any effect, and nothing is undone.

    A `GeneratorExit`, as coroutines get that nobody goes on with: any other exception of an act is a failure of it.
    """


@define(eq=False)
class Fuse:
    """Numbers the points at which a process can die, and lets it die at one of them (0: never)."""

    at: int = 0
    points: int = 0
    dead: bool = False
    real: bool = False

    def point(self) -> None:
        """A place to die at."""
        if self.dead:
            raise Died
        self.points += 1
        if self.points == self.at:
            self.die()

    def die(self) -> None:
        """End the process, really or for the rest of this test."""
        if self.real:
            os.kill(os.getpid(), 9)
        self.dead = True
        raise Died


@frozen
class Effect:
    """One act or undo that reached a service."""

    verb: str
    step: str
    path: str
    key: str
    attempt: int
    fence: int
    process: int


@define(eq=False)
class World:
    """Services that repeat their answer for a known key, and refuse a key that was undone.

    `reader` sees the store through another connection; `problems` collects every broken law.
    """

    definition: Definition
    reader: Storage
    file: Path | None = None
    fuse: Fuse = field(factory=Fuse)
    effects: list[Effect] = field(factory=list)
    problems: list[str] = field(factory=list)
    process: int = 0

    @property
    def live(self) -> set[str]:
        """Keys of acts whose effect is there."""
        keys: set[str] = set()
        for effect in self.effects:
            if effect.verb == "act":
                keys.add(effect.key)
            else:
                keys.discard(effect.key)
        return keys

    async def act(self, context: Any) -> None:
        """A service does its work, unless the key was undone before."""
        await self._call("act", context)

    async def undo(self, context: Any) -> None:
        """A service undoes its work, and will refuse the key from now on."""
        await self._call("undo", context)

    def remember(self) -> None:
        """Read what a process that is gone has left in the file."""
        if self.file is not None and self.file.exists():
            self.process += 1
            self.effects = [Effect(**json.loads(line)) for line in self.file.read_text().splitlines()]

    def check_end(self, record: SagaRecord, expected: Collection[SagaState | None]) -> None:
        """The laws of a saga that has ended."""
        state = record.summary.state
        if state not in expected:
            self.problems.append(f"I0: it ends {state}, not {expected}: {record.entries}")
        if sum(entry.kind in _ENDS for entry in record.entries) != 1:
            self.problems.append("I3: it does not have exactly one end")
        fences = [entry.fence for entry in record.entries]
        if fences != sorted(fences):
            self.problems.append(f"I3: fences fall: {fences}")
        if state is SagaState.COMPLETED:
            self._check_completed()
        if state is SagaState.COMPENSATED:
            self._check_compensated()

    async def _call(self, verb: str, context: Any) -> None:
        step = current_step()
        self.fuse.point()
        await self._check_call(verb, context)
        undone = any(effect.verb == "undo" and effect.key == _act_key() for effect in self.effects)
        if verb == "act" and undone:
            raise NotDone("this key was undone")
        self._keep(Effect(verb, step.step_name, step.path, _act_key(), step.attempt, step.fence, self.process))
        await checkpoint()
        self.fuse.point()

    def _keep(self, effect: Effect) -> None:
        self.effects.append(effect)
        if self.file is None:
            return
        with self.file.open("a") as file:
            file.write(json.dumps(asdict(effect)) + "\n")
            file.flush()
            os.fsync(file.fileno())

    async def _check_call(self, verb: str, context: Any) -> None:
        step = current_step()
        record = await self.reader.load(step.saga_id)
        entries = [entry for entry in record.entries if entry.path == step.path and entry.kind in _CALLS]
        wanted = EntryKind.STARTED if verb == "act" else EntryKind.UNDO_STARTED
        last = entries[-1] if entries else None
        if last is None or last.kind is not wanted or last.attempt != step.attempt:
            self.problems.append(f"I2: {verb} of {step.step_name} begins, and the log says {last}")
        progress = fold(self.definition, record, step.fence)
        context_of = progress.context_of(self.definition.by_path[step.path])
        durable = context_of.base if verb == "act" else context_of.current
        seen = self.definition.codec.encode(context, where="the context")
        if seen != durable:
            self.problems.append(f"I10: {verb} of {step.step_name} sees {seen}, and the store has {durable}")
        self._check_kept(record, durable)
        if _act_key() in {effect.key for effect in self.effects if effect.path != step.path}:
            self.problems.append(f"I9: {step.step_name} shares the key {_act_key()}")
        if any(effect.path == step.path and effect.key != _act_key() for effect in self.effects):
            self.problems.append(f"I9: {step.step_name} has more than one key")
        if any(effect.fence == step.fence and effect.process != self.process for effect in self.effects):
            self.problems.append(f"I3: two owners of {step.saga_id} have the fence {step.fence}")
        if any(effect.fence > step.fence for effect in self.effects):
            self.problems.append(f"I3: {verb} of {step.step_name} under the old fence {step.fence}")

    def _check_kept(self, record: SagaRecord, durable: str) -> None:
        for entry in record.entries:
            name = self.definition.name_at(entry.path)
            if entry.kind is EntryKind.DONE and f"end {name}" not in durable:
                self.problems.append(f"I4: what {name} wrote into the context is lost")

    def _check_completed(self) -> None:
        steps = {leaf.name for leaf in self.definition.leaves}
        done = {effect.step for effect in self.effects if effect.key in self.live}
        if done != steps:
            self.problems.append(f"I1: completed, and the live effects are {sorted(done)}")

    def _check_compensated(self) -> None:
        if self.live:
            self.problems.append(f"I1: compensated, and still live are {sorted(self.live)}")
        undone = list(dict.fromkeys(effect.path for effect in self.effects if effect.verb == "undo"))
        if undone != sorted(undone, key=int, reverse=True):
            self.problems.append(f"I1: undone in the order {undone}")
        if any(effect.verb == "undo" and self.definition.by_path[effect.path].pivot for effect in self.effects):
            self.problems.append("I1: a pivot was undone")


def _act_key() -> str:
    """The key that the receiver gets, of the act also when it is undone."""
    key = current_step().key
    return key.removesuffix(":undo") + ":act" if key.endswith(":undo") else key


_CALLS = {
    EntryKind.STARTED,
    EntryKind.UNDO_STARTED,
    EntryKind.DONE,
    EntryKind.NOT_DONE,
    EntryKind.UNKNOWN,
    EntryKind.UNDONE,
    EntryKind.UNDO_FAILED,
}
_ENDS = {EntryKind.COMPLETED, EntryKind.COMPENSATED, EntryKind.ABANDONED}
