"""Names of a package that are imported when they are first used, and names that show the package as their module.

Ground floor: imports nothing of ours.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

_BORROWED = {"Any", "TYPE_CHECKING", "annotations", "attach"}
_NOTHING: Mapping[str, str] = {}


def attach(
    package: str, homes: Mapping[str, str], needs: Mapping[str, str] = _NOTHING
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The ``__getattr__`` and the ``__dir__`` of a package, for names and the modules that they are imported from.

    `needs` says for some names which module of another package they need. Where that is not installed they are not
    listed: `help` imports all that is, and would fail.

    To be hidden from type checkers, which would take a package with a ``__getattr__`` to have any name whatever.
    """

    def get(name: str) -> Any:
        if name == "__all__":  # asked for by `from ... import *`, which would miss what is imported later
            return [each for each in names() if each in homes or _is_public(each, vars(sys.modules[package])[each])]
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(homes[name]), name)
        show_as_public(package, value)
        setattr(sys.modules[package], name, value)
        return value

    def names() -> list[str]:
        missing = {name for name, module in needs.items() if find_spec(module) is None}
        return sorted({*vars(sys.modules[package]), *homes} - missing)

    return get, names


def _is_public(name: str, value: object) -> bool:
    return not (name.startswith("_") or name in _BORROWED or isinstance(value, ModuleType))


def show_as_public(package: str, value: object) -> None:
    """Have tracebacks, documentation and pickles show the public name, so that private files may move freely."""
    if getattr(value, "__module__", "").startswith(f"{package}."):
        value.__module__ = package
