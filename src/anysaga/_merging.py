"""Contexts of steps that act at the same time: each changes a copy, and what it changed is merged, field by field.

Works on the stored form (JSON text). A context that is no object has no fields: it is one field as a whole.
"""

from __future__ import annotations

import json

from anysaga._snapshot import dumps

_WHOLE = ""
"""The only field of a context that is no object."""


def merge(origin: str, whole: str, mine: str) -> str:
    """`whole`, with what `mine` changed against `origin`, from which both began."""
    if mine == origin:
        return whole
    if whole == origin:
        return mine
    fields = _fields(whole)
    for name, value in _changes(_fields(origin), _fields(mine)).items():
        if value is None:
            fields.pop(name, None)
        else:
            fields[name] = value
    if _WHOLE in fields:
        return fields[_WHOLE]
    return "{" + ",".join(f"{name}:{value}" for name, value in fields.items()) + "}"


def clashes(origin: str, whole: str, mine: str) -> list[str]:
    """The fields that both changed against `origin`, ordered by name."""
    if origin in (mine, whole):
        return []
    before = _fields(origin)
    ours, theirs = _changes(before, _fields(mine)), _changes(before, _fields(whole))
    if _WHOLE in ours or _WHOLE in theirs:
        return ["the whole context"] if ours and theirs else []
    return sorted(json.loads(name) for name in ours.keys() & theirs.keys())


def _changes(before: dict[str, str], after: dict[str, str]) -> dict[str, str | None]:
    """The fields that differ, as they are after; None for one that is gone."""
    names = [*before, *(name for name in after if name not in before)]
    return {name: after.get(name) for name in names if before.get(name) != after.get(name)}


def _fields(text: str) -> dict[str, str]:
    """Names and values, both as JSON text: in JSON, unlike in Python, 1, 1.0 and true are three values."""
    value = json.loads(text)
    return {dumps(name): dumps(each) for name, each in value.items()} if isinstance(value, dict) else {_WHOLE: text}
