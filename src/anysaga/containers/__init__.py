"""Dependency injection packages in the place of a mapping. Each adapter is imported when it is first used.

Their own containers are accepted wherever a container is; an adapter is named only for its options.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from anysaga._lazy import attach
from anysaga.containers._raw import RawContainer as RawContainer

if TYPE_CHECKING:
    from anysaga.abc import Container
    from anysaga.containers._dependency_injector import DependencyInjectorContainer as DependencyInjectorContainer
    from anysaga.containers._di import DiContainer as DiContainer
    from anysaga.containers._dishka import DishkaContainer as DishkaContainer
    from anysaga.containers._svcs import SvcsContainer as SvcsContainer
else:
    __getattr__, __dir__ = attach(
        __name__,
        {
            "DependencyInjectorContainer": "anysaga.containers._dependency_injector",
            "DiContainer": "anysaga.containers._di",
            "DishkaContainer": "anysaga.containers._dishka",
            "SvcsContainer": "anysaga.containers._svcs",
        },
        needs={
            "DependencyInjectorContainer": "dependency_injector",
            "DiContainer": "di",
            "DishkaContainer": "dishka",
            "SvcsContainer": "svcs",
        },
    )

# What each package calls a container, and who adapts it, or says what to give in the place of what is no container
# for a saga. A package that nobody imported has made no container.
_RAW = (
    ("di", "Container", "DiContainer"),
    ("dishka", "AsyncContainer", "DishkaContainer"),
    ("dishka", "Container", "DishkaContainer"),
    ("dishka", "Provider", "DishkaContainer"),
    ("svcs", "Registry", "SvcsContainer"),
    ("svcs", "Container", "SvcsContainer"),
    ("dependency_injector.containers", "Container", "DependencyInjectorContainer"),
)


def adapted(given: Any) -> Container | None:
    """The adapter for a container of one of these packages; None for anything else. Imports none of them.

    Raises `InvalidArgument` for what the package has beside it, such as a container without ``await``.
    """
    for module, name, adapter in _RAW:
        kind = getattr(sys.modules.get(module), name, None)
        if isinstance(kind, type) and (
            isinstance(given, kind) or (isinstance(given, type) and issubclass(given, kind))
        ):
            made: Container = getattr(sys.modules[__name__], adapter)(given)
            return made
    return None
