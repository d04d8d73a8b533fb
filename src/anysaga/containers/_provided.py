"""What the providers of dependency-injector provide: the package finds them by name, and we by type."""

from __future__ import annotations

import inspect
import typing
from collections import abc
from collections.abc import Iterator
from typing import Any

from dependency_injector.containers import Container
from dependency_injector.providers import Container as Nested
from dependency_injector.providers import Coroutine, Dependency, Object, Provider
from dependency_injector.resources import AsyncResource, Resource

from anysaga._errors import InvalidArgument
from anysaga._generics import arguments_of
from anysaga.containers._names import name_of

# What an annotation of a generator or coroutine says around the type that is provided.
_WRAPPERS = (abc.Iterator, abc.AsyncIterator, abc.Generator, abc.AsyncGenerator, abc.Iterable, abc.AsyncIterable)


def provider_of(container: Container, wanted: Any) -> Provider[Any] | None:
    """The provider of exactly this type, or else the only one of a subclass; None if there is none.

    Raises `InvalidArgument` if several would do.
    """
    rows = [(name, provider, provided_type(provider)) for name, provider in _providers(container)]
    exact = [(name, provider) for name, provider, kind in rows if kind == wanted]
    fits = exact or [(name, provider) for name, provider, kind in rows if _is_subclass(kind, wanted)]
    if len(fits) > 1:
        names = ", ".join(name for name, _ in fits)
        expected = f"it has several providers for {name_of(wanted)} ({names}): leave one, or ask for a subclass"
        raise InvalidArgument("container", container, expected)
    return fits[0][1] if fits else None


def provided_type(provider: Provider[Any]) -> Any:
    """The type of what a provider gives, or None if that cannot be known."""
    if isinstance(provider, Dependency):
        return provider.instance_of
    provides = getattr(provider, "provides", None)
    if type(provider) is Object:
        return type(provides)
    if not isinstance(provides, type):
        return _unwrapped(_returned(provides))
    for base in (Resource, AsyncResource):
        if issubclass(provides, base):
            return arguments_of(provides, base)[0]
    return provides


def is_async(provider: Provider[Any]) -> bool:
    """Whether a provider, or one that it needs, is asynchronous."""
    return any(_is_async(each) for each in (provider, *provider.traverse()))


def _providers(container: Container) -> Iterator[tuple[str, Provider[Any]]]:
    for name, provider in container.providers.items():
        if isinstance(provider, Nested):
            yield from ((f"{name}.{inner}", each) for inner, each in _providers(provider))  # type: ignore[arg-type]  # hands it on
        else:
            yield name, provider


def _is_async(provider: Provider[Any]) -> bool:
    provides = getattr(provider, "provides", None)
    if isinstance(provider, Coroutine) or (isinstance(provides, type) and issubclass(provides, AsyncResource)):
        return True
    function = inspect.unwrap(provides) if callable(provides) else provides
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


def _returned(function: Any) -> Any:
    if not callable(function):
        return None
    try:
        return typing.get_type_hints(inspect.unwrap(function)).get("return")
    except (NameError, TypeError):  # an annotation that is not known at run time, or no function
        return None


def _unwrapped(kind: Any) -> Any:
    arguments = typing.get_args(kind)
    return arguments[0] if typing.get_origin(kind) in _WRAPPERS and arguments else kind


def _is_subclass(kind: Any, wanted: Any) -> bool:
    return isinstance(kind, type) and isinstance(wanted, type) and wanted is not object and issubclass(kind, wanted)
