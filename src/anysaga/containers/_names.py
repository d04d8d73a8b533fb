"""What types are called in messages about containers."""

from __future__ import annotations

from typing import Any, get_args


def name_of(kind: Any) -> str:
    """A type as it is written where it is asked for, with what it is of: ``Bank``, ``shop.Store[shop.Order]``."""
    name = None if get_args(kind) else getattr(kind, "__qualname__", None)
    return name or str(kind)


def means(name: str, kind: Any) -> bool:
    """Whether a container that lacks `name` lacks this very type, and not something that it needs to make it."""
    known = (getattr(kind, attribute, None) for attribute in ("__qualname__", "__name__"))
    return name in (name_of(kind), str(kind), *known)
