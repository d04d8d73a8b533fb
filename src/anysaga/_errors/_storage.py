"""What goes wrong with a store, or with what it keeps."""

from __future__ import annotations

from attrs import define

from ._root import AnysagaError


@define(slots=False, eq=False, repr=False)
class NotStorable(AnysagaError, ValueError):
    """A value cannot be stored. `where` names the field, never the value; `reason` says what is wrong with it."""

    where: str
    reason: str

    def __str__(self) -> str:
        return f"{self.where} cannot be stored: {self.reason}"


@define(slots=False, eq=False, repr=False)
class NotReadable(AnysagaError, ValueError):
    """A stored text does not fit the type it should become: the type changed, or the text was damaged."""

    where: str
    reason: str

    def __str__(self) -> str:
        return (
            f"the stored text of {self.where} cannot be read: {self.reason}. "
            "Bring back the definition that wrote it, or give new fields a default"
        )


class StorageError(AnysagaError):
    """The root of what goes wrong with a store. It never changes a saga's state."""


@define(slots=False, eq=False, repr=False)
class StorageUnavailable(StorageError):
    """The store did not answer, or refused for a reason of its own. Whether the last write took effect is open."""

    store: str
    reason: str

    def __str__(self) -> str:
        return (
            f"the store {self.store} is not available: {self.reason}. No saga's state was changed; "
            "once it is back, recover() finishes what was interrupted"
        )


@define(slots=False, eq=False, repr=False)
class StorageClosed(StorageError, RuntimeError):
    """The store was closed before."""

    store: str

    def __str__(self) -> str:
        return (
            f"the store {self.store} is closed, and does not open again: keep the saga's work inside its `async with`, "
            "and make another one for what comes later"
        )


@define(slots=False, eq=False, repr=False)
class StorageRefused(StorageError, ValueError):
    """A store cannot be used with this address or these options."""

    store: str
    reason: str

    def __str__(self) -> str:
        return f"the store {self.store} cannot be used: {self.reason}"


@define(slots=False, eq=False, repr=False)
class MissingDriver(StorageError, ImportError):
    """A package that this store needs is not installed. `extra` names the extra that brings it."""

    store: str
    package: str
    extra: str

    def __str__(self) -> str:
        return f"the store {self.store} needs {self.package}: pip install 'anysaga[{self.extra}]'"


@define(slots=False, eq=False, repr=False)
class CorruptRecord(StorageError):
    """What the store has of a saga is no saga's record."""

    saga_id: str
    reason: str

    def __str__(self) -> str:
        return (
            f"the record of saga {self.saga_id!r} is damaged: {self.reason}. Restore it from a backup, or abandon() it"
        )
