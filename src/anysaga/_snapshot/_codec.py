"""The codec of a type: its values as JSON text and back, strictly, and in place."""

from __future__ import annotations

from functools import cached_property
from threading import RLock
from typing import Any, Generic, TypeVar, get_origin

from anysaga._errors import NotReadable, NotStorable

from ._converter import Hooks
from ._fields import fields_of, has_fields, hidden_state
from ._misfit import TOO_DEEP, Misfit, Read, Write, type_name
from ._records import refill
from ._secrets import find_secrets, has_secrets, is_marked
from ._text import (
    NUL_ESCAPED,
    SHORT,
    check_limits,
    dumps_bytes,
    has_odd_characters,
    quick_dumps,
    read_text,
    write_text,
)

T = TypeVar("T")


class Codec(Generic[T]):
    """Turns values of one type into JSON text and back. Get it from `codec_for`; safe to use from any thread.

    Whatever `encode` takes, `decode` gives back, equal and sharing nothing with the original. One exception: a datetime
    of a named zone, in an hour that a change of the clock skips or repeats, comes back with the same clock time and
    offset, but Python calls no two zones equal there. Neither way coerces: the modules of the formats (`_leaves`,
    `_choices`, `_collections`, `_unions`, `_records`) list them. `where` begins the path in an error; errors name
    fields and types, never a value, and have no cause that could.

    Where orjson is installed it writes the text, with the same letters as the standard library.
    """

    def __init__(self, kind: Any) -> None:
        hooks = Hooks(hurry=True)
        self._kind = kind
        self._write = hooks.writer(kind)
        self._spared = hooks.spared(kind)
        self._dumps = dumps_bytes if hooks.has_floats else quick_dumps()
        self._read = hooks.reader(kind)
        self._all_secret = is_marked(kind)
        self.has_secrets = has_secrets(kind)
        self._fields = fields_of(kind) if has_fields(kind) else ()
        self._hidden = hidden_state(get_origin(kind) or kind, self._fields) if has_fields(kind) else ()

    def encode(self, value: T, /, *, where: str) -> str:
        """JSON text of a value, at most `MAX_CONTEXT_BYTES` bytes and `MAX_NESTING` levels. Raises `NotStorable`."""
        try:
            plain = value if value.__class__ in self._spared else self._write(value)
            text = self._dumps(plain).decode()
            if len(text) > SHORT:
                check_limits(text, plain)
            if NUL_ESCAPED not in text:
                return text
        except Exception:  # noqa: BLE001, S110 - what it was is found out with care, and outside of this `except`
            pass
        return self._encode_with_care(value, where)

    @cached_property
    def _write_with_care(self) -> Write:
        return Hooks().writer(self._kind)

    def _encode_with_care(self, value: T, where: str) -> str:
        """The same, with a look at each single value: says where the trouble is, or that there is none."""
        try:
            return write_text(self._write_with_care(value))
        except Exception as error:  # noqa: BLE001 - as above
            path, reason = _explain(error)
        raise NotStorable(where + path, reason)

    def decode(self, text: str, /, *, where: str) -> T:
        """The value of a JSON text that `encode` wrote. Raises `NotReadable`; imports and calls nothing it names."""
        try:
            if not has_odd_characters(text):
                value: T = self._read(read_text(text))
                return value
        except Exception:  # noqa: BLE001, S110 - as in `encode`
            pass
        return self._decode_with_care(text, where)

    @cached_property
    def _read_with_care(self) -> Read:
        return Hooks().reader(self._kind)

    def _decode_with_care(self, text: str, where: str) -> T:
        try:
            value: T = self._read_with_care(read_text(text))
        except Exception as error:  # noqa: BLE001 - a property, a default or a hash of the user's may raise anything
            path, reason = _explain(error)
        else:
            return value
        raise NotReadable(where + path, reason)

    def rewritten(self, text: str, /) -> str:
        """The text of a stored value as `encode` writes it now: declared anew, its type may have other fields.

        A text that cannot be read stays as it is.
        """
        try:
            return self.encode(self.decode(text, where=""), where="")
        except (NotReadable, NotStorable):
            return text

    def restore(self, target: T, text: str, /, *, where: str) -> None:
        """Make an attrs or dataclass object what a text says, in place, or leave it as it is and raise `NotReadable`.

        All fields are replaced, frozen and `init=False` ones too; attributes that are no fields are removed.
        """
        cls = get_origin(self._kind) or self._kind
        if not has_fields(cls) or type(target) is not cls:
            raise NotReadable(where, f"only a {type_name(cls)} with fields can be restored in place")
        refill(target, self.decode(text, where=where), self._fields, self._hidden)

    def secrets(self, value: T, /) -> tuple[str, ...]:
        """The text of every value in a field marked `secret`, also inside of it. Free where the type has none."""
        return find_secrets(value, all_of_it=self._all_secret) if self.has_secrets else ()


def _explain(error: Exception) -> tuple[str, str]:
    """Path and reason. Errors of the user's own code are named only: their text could quote a value.

    The error itself goes no further: callers raise outside of its `except`, so that it is nobody's context either.
    """
    if isinstance(error, Misfit):
        return error.path, error.reason
    if isinstance(error, RecursionError):
        return "", TOO_DEEP
    return "", f"{type(error).__name__} was raised on the way"


_codecs: dict[Any, Codec[Any]] = {}
_compiling = RLock()


def codec_for(kind: Any, *, where: str) -> Codec[Any]:
    """The codec of a type, compiled once: the same object for the same type.

    Raises `NotStorable` if some part of the type has no stored form, naming the field (``Order.items[].price``).
    """
    try:
        known = _codecs.get(kind)
    except TypeError:  # it has no hash, so it is no type
        known = None
    try:
        return known or _compile(kind)
    except Misfit as misfit:
        path, reason = misfit.path, misfit.reason
    raise NotStorable(where + path, reason)


def _compile(kind: Any) -> Codec[Any]:
    with _compiling:
        made: Codec[Any] = Codec(kind)
        return _codecs.setdefault(kind, made)
