"""The containers of other packages as type checkers see them, without importing the packages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias


class DiLike(Protocol):
    """A `di.Container`."""

    def bind(self, *args: Any, **kwargs: Any) -> Any: ...
    def solve(self, *args: Any, **kwargs: Any) -> Any: ...


class DishkaLike(Protocol):
    """A `dishka.AsyncContainer`."""

    def get(self, *args: Any, **kwargs: Any) -> Any: ...
    def get_sync(self, *args: Any, **kwargs: Any) -> Any: ...


class SvcsLike(Protocol):
    """A `svcs.Registry`."""

    def register_factory(self, *args: Any, **kwargs: Any) -> Any: ...
    def register_value(self, *args: Any, **kwargs: Any) -> Any: ...


class InjectorLike(Protocol):
    """A container of dependency-injector."""

    def init_resources(self, *args: Any, **kwargs: Any) -> Any: ...
    def shutdown_resources(self, *args: Any, **kwargs: Any) -> Any: ...


RawContainer: TypeAlias = DiLike | DishkaLike | SvcsLike | InjectorLike | Callable[[], InjectorLike]
