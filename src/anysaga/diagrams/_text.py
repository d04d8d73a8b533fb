"""Texts that Mermaid accepts: lines, labels of any characters, and ids of our own."""

from __future__ import annotations

import re
from collections.abc import Iterable

from anysaga._nodes import Node

# What else than letters and digits stands for itself wherever we write a label. No others: `(` ends a name in a class,
# `:` and `;` a statement, `%%{` begins a directive.
_HARMLESS = frozenset(" _.,-/")

_DIRECTION = re.compile("(direction) ")
"""A line with `direction LR` anywhere, even in quotes, turns the whole diagram."""


def label(text: str) -> str:
    """A text as Mermaid shows it: what could mean something to its parser is written as an entity."""
    shown = text if text.strip() else "\N{OPEN BOX}"
    written = "".join(one if one.isalnum() or one in _HARMLESS else f"#{ord(one)};" for one in shown.strip())
    return _DIRECTION.sub(r"\1#32;", written)


def key(node: Node, prefix: str) -> str:
    """The id of a node in a diagram, made of its path: names could be words of Mermaid."""
    return prefix + node.path.replace("/", "_")


def indented(lines: Iterable[str]) -> list[str]:
    """The same lines one level deeper."""
    return [f"    {line}" for line in lines]


def diagram(kind: str, lines: Iterable[str]) -> str:
    """A whole diagram."""
    return "\n".join([kind, *indented(lines), ""])
