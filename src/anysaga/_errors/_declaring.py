"""What is wrong with what was declared, bound or given as an option."""

from __future__ import annotations

from attrs import define

from ._root import AnysagaError


@define(slots=False, eq=False, repr=False)
class InvalidArgument(AnysagaError, ValueError):
    """An option has a value that cannot work. Raised where it is given."""

    name: str
    value: object
    expected: str

    def __str__(self) -> str:
        return f"{self.name}={self.value!r} cannot work: {self.expected}"


@define(slots=False, eq=False, repr=False)
class DefinitionError(AnysagaError, TypeError):
    """A saga cannot be declared like this. `problems` lists all that is wrong, `outline` shows the saga."""

    saga: str
    problems: tuple[str, ...]
    outline: str

    def __str__(self) -> str:
        problems = "".join(f"\n  - {problem}" for problem in self.problems)
        return f"saga {self.saga!r} cannot be declared:{problems}\n{self.outline}"


@define(slots=False, eq=False, repr=False)
class MissingPackage(AnysagaError, ImportError):
    """Something needs a package that is not installed. `extra` brings it."""

    package: str
    extra: str

    def __str__(self) -> str:
        return f"the package {self.package!r} is not installed: pip install 'anysaga[{self.extra}]'"


@define(slots=False, eq=False, repr=False)
class ContextNotMapped(AnysagaError, LookupError):
    """A mediator was given a context, and no saga is bound to its type. `known` are the types that have one."""

    context: str
    known: tuple[str, ...]

    def __str__(self) -> str:
        known = ", ".join(self.known) or "nothing"
        return f"no saga is bound to {self.context}: `sagas.bind({self.context}, ...)`; the map has {known}"


@define(slots=False, eq=False, repr=False)
class ContextAlreadyMapped(AnysagaError, ValueError):
    """A second saga was bound to a type of context. `bound` is the first one."""

    context: str
    saga: str
    bound: str

    def __str__(self) -> str:
        return (
            f"saga {self.saga!r} cannot be bound to {self.context}, which starts saga {self.bound!r} already: "
            "give each saga a context type of its own"
        )


@define(slots=False, eq=False, repr=False)
class SagaOfOtherContext(AnysagaError, TypeError):
    """A saga was bound to a type that is not that of its context, which is `expected`."""

    context: str
    saga: str
    expected: str

    def __str__(self) -> str:
        return (
            f"saga {self.saga!r} works on {self.expected}, not on {self.context}: "
            f"`sagas.bind({self.expected}, ...)`, or declare the saga for {self.context}"
        )
