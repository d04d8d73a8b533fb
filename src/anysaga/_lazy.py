"""Names of a package that are imported when they are first used, and names that show the package as their module.

Ground floor: imports nothing of ours.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def attach(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The ``__getattr__`` and the ``__dir__`` of a package, for names and the modules that they are imported from.

    To be hidden from type checkers, which would take a package with a ``__getattr__`` to have any name whatever.
    """

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(homes[name]), name)
        show_as_public(package, value)
        setattr(sys.modules[package], name, value)
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *homes})

    return get, names


def show_as_public(package: str, value: object) -> None:
    """Have tracebacks, documentation and pickles show the public name, so that private files may move freely."""
    if getattr(value, "__module__", "").startswith(f"{package}."):
        value.__module__ = package
