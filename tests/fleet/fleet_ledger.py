"""The world of the fleet tests: services that know a key when they see it again, and a ledger of all that was done."""

from __future__ import annotations

import fcntl
import json
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from attrs import define, frozen


@frozen
class Call:
    """One call of a service: `verb` is ``act`` or ``undo``, `effect` whether it changed anything."""

    verb: str
    saga_id: str
    step: str
    key: str
    fence: int
    pid: int
    effect: bool


@define
class Ledger:
    """An append-only file that all processes share, one line a call."""

    file: Path

    def act(self, saga_id: str, step: str, key: str, fence: int) -> bool:
        """Do the work of a key once. False: it was undone before, and is refused for ever."""
        return self._call("act", saga_id, step, key, fence)

    def undo(self, saga_id: str, step: str, key: str, fence: int) -> None:
        """Undo the work of a key, or make sure that it will not be done."""
        self._call("undo", saga_id, step, key, fence)

    def calls(self) -> list[Call]:
        """All that was called, in order."""
        if not self.file.exists():
            return []
        return [Call(**json.loads(line)) for line in self.file.read_text().splitlines()]

    def _call(self, verb: str, saga_id: str, step: str, key: str, fence: int) -> bool:
        with self.file.open("a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            before = [Call(**json.loads(line)) for line in file]
            done = any(call.key == key and call.verb == "act" and call.effect for call in before)
            undone = any(call.key == key and call.verb == "undo" for call in before)
            effect = not (done or undone) if verb == "act" else done and not undone
            line: dict[str, Any] = {"verb": verb, "saga_id": saga_id, "step": step, "key": key, "fence": fence}
            file.write(json.dumps({**line, "pid": os.getpid(), "effect": effect}) + "\n")
        return verb == "undo" or not undone


def problems(calls: Iterable[Call], ends: dict[str, str], steps: list[str]) -> list[str]:
    """What I1 and I3 say against this ledger, given how each saga ended."""
    found: list[str] = []
    by_saga: dict[str, list[Call]] = {}
    for call in calls:
        by_saga.setdefault(call.saga_id, []).append(call)
    for saga_id, end in ends.items():
        own = by_saga.get(saga_id, [])
        live = Counter(call.step for call in own if call.verb == "act" and call.effect)
        live.subtract(call.step for call in own if call.verb == "undo" and call.effect)
        wanted = dict.fromkeys(steps, 1) if end == "COMPLETED" else {}
        if {step: count for step, count in live.items() if count} != wanted:
            found.append(f"I1: {saga_id} is {end}, and alive are {dict(live)}")
        undone = [call.step for call in own if call.verb == "undo" and call.effect]
        if undone != sorted(undone, key=steps.index, reverse=True):
            found.append(f"I1: {saga_id} was undone in the order {undone}")
    return found
