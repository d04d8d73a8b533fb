"""The caller's context object, kept equal to what is durable: restored in place, never replaced."""

from __future__ import annotations

import warnings
from typing import Any

from attrs import define, field

from anysaga._definition import Definition
from anysaga._errors import ContextChangedWarning, NotStorable
from anysaga._snapshot import error_in_words, redact


@define(eq=False, repr=False)
class LiveContext:
    """The object that acts and undos receive.

    `equals` is the JSON text that the object is known to be equal to, or None while nobody knows.
    """

    definition: Definition
    value: Any
    equals: str | None = None
    _shown: bool = field(default=False, init=False)
    _secrets_before: tuple[str, ...] = field(default=(), init=False)

    @property
    def where(self) -> str:
        """How messages name the object."""
        return self.definition.context_name

    def encode(self) -> str:
        """The object as it is now. Raises `NotStorable`."""
        definition = self.definition
        text = definition.codec.encode(self.value, where=definition.context_name)
        self.equals = text
        return text

    def show(self) -> None:
        """Say that code of the caller sees the object now, and might change it."""
        self._shown = True

    def bring_to(self, text: str) -> None:
        """Make the object equal to `text`, in place. What the caller changed between two steps is discarded."""
        if self._shown:
            self._shown = False
            self._discard_changes()
        if self.equals != text:
            self.definition.codec.restore(self.value, text, where=self.where)
            self.equals = text
        if self.definition.codec.has_secrets:
            self._secrets_before = self._secrets()

    def touched(self) -> None:
        """Say that a step may have changed the object."""
        self.equals = None

    def in_words(self, error: BaseException) -> str:
        """An error as one text that can be stored and shown: no secrets, bounded, always writable."""
        return error_in_words(error, self._secrets_before + self._secrets())

    def without_secrets(self, text: str) -> str:
        """A text of the caller's as it may be stored and shown."""
        return redact(text, self._secrets_before + self._secrets())

    def _secrets(self) -> tuple[str, ...]:
        try:
            return self.definition.codec.secrets(self.value)
        except Exception:  # noqa: BLE001 - a step may have left a value that is none of its type
            return ()

    def _discard_changes(self) -> None:
        before = self.equals
        try:
            now: str | None = self.definition.codec.encode(self.value, where=self.where)
        except NotStorable:
            now = None
        if before is None or now == before:
            return
        self.equals = None
        warnings.warn(
            f"{self.where} was changed between two steps; the change is discarded: only steps change the context",
            ContextChangedWarning,
            stacklevel=2,
        )
