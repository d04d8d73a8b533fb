"""One cattrs converter with all formats, strict both ways.

cattrs finds the format of a type and keeps what it found; the formats are ours, because its own coerce, drop
`init=False` fields, and quote values in their errors. What no format takes is refused, never passed on.
"""

from __future__ import annotations

from collections.abc import Callable
from types import GenericAlias
from typing import Any, Literal, get_origin, is_typeddict

from cattrs import Converter

from . import _collections, _records, _unions
from ._choices import enum_hooks, is_enum, literal_hooks
from ._fields import bare, has_fields, is_named_tuple, refusal
from ._leaves import AS_THEY_ARE, LEAVES, read_plain, write_plain
from ._misfit import Misfit, Read, Write, type_name


class Hooks:
    """The hooks of one codec. Not shared between codecs, so that a type that fails leaves nothing half-made behind.

    Those in a hurry leave it to the caller to look for characters that no store takes, in the whole text at once, and
    to find out what does not fit and where, with hooks that take their time.
    `has_floats` tells, once a writer is made, whether what it writes may have floats.
    """

    def __init__(self, *, hurry: bool = False) -> None:
        self.has_floats = False
        self.in_a_hurry = hurry
        self._converter = Converter()
        self._open: dict[tuple[str, Any], Callable[..., Any]] = {}
        for leaf, (write, read) in LEAVES.items():
            self._converter.register_unstructure_hook(leaf, write)
            self._converter.register_structure_hook(leaf, read)
        for fits, write_format, read_format in _FORMATS:
            self._register(fits, write_format, read_format)

    def writer(self, kind: Any, /) -> Write:
        """The hook that writes values of a type. Raises `Misfit` if there is none."""
        kind = _supported(kind)
        if is_enum(kind):
            return enum_hooks(kind)[0]
        self.has_floats = self.has_floats or kind is float or _is_any(kind)
        return self._converter.get_unstructure_hook(kind)

    def reader(self, kind: Any, /) -> Read:
        """The hook that reads values of a type. Raises `Misfit` if there is none."""
        kind = _supported(kind)
        if is_enum(kind):
            return enum_hooks(kind)[1]
        return self._converter.get_structure_hook(kind)

    def spared(self, kind: Any, /) -> frozenset[type]:
        """Classes whose values the writer and the reader of `kind` would give back as they are. None without hurry."""
        kind = bare(kind)
        if not self.in_a_hurry:
            return frozenset()
        return _unions.spared_in_union(kind, self) if _unions.is_union(kind) else AS_THEY_ARE.get(kind, frozenset())

    def _register(self, fits: Callable[[Any], bool], write_format: Any, read_format: Any) -> None:
        self._converter.register_unstructure_hook_factory(fits, lambda kind: self._once("write", kind, write_format))
        self._converter.register_structure_hook_factory(fits, lambda kind: self._once("read", kind, read_format))

    def _once(self, way: str, kind: Any, make: Callable[[Any, Hooks], Callable[..., Any]]) -> Callable[..., Any]:
        """Make a hook; inside of its own type, which is a recursive one, stand in for it until it is made."""
        made: list[Callable[..., Any]] = []
        if (way, kind) in self._open:
            return self._open[way, kind]

        def stand_in(value: Any, _: Any = None) -> Any:
            return made[0](value)

        self._open[way, kind] = stand_in
        made.append(make(kind, self))
        del self._open[way, kind]
        return made[0]


def _supported(kind: Any) -> Any:
    """The bare type. cattrs would take a subclass of a leaf for the leaf and forget the subclass."""
    kind = bare(kind)
    try:
        hash(kind)
    except TypeError:
        raise refusal(kind) from None
    if isinstance(kind, GenericAlias) and kind.__unpacked__:
        raise Misfit(
            f"its type *{type_name(kind)} has no stored form: a tuple has fixed places, or any number of one type"
        )
    if not isinstance(kind, type) or kind in LEAVES or is_enum(kind):
        return kind
    if issubclass(kind, tuple(LEAVES)):
        raise refusal(kind)
    return kind


def _refuse(kind: Any, _: Hooks) -> Any:
    raise refusal(kind)


def _is_literal(kind: Any) -> bool:
    return get_origin(kind) is Literal


def _is_any(kind: Any) -> bool:
    return kind is Any or kind is object


def _is_typed_dict(kind: Any) -> bool:
    return is_typeddict(get_origin(kind) or kind)


# cattrs asks the last one first.
_FORMATS: tuple[tuple[Callable[[Any], bool], Any, Any], ...] = (
    (lambda _: True, _refuse, _refuse),
    (_is_any, lambda *_: write_plain, lambda *_: read_plain),
    (
        _is_literal,
        lambda kind, hooks: literal_hooks(kind, hooks.writer)[0],
        lambda kind, hooks: literal_hooks(kind, hooks.writer)[1],
    ),
    (_collections.is_list, _collections.write_list, _collections.read_list),
    (_collections.is_set, _collections.write_set, _collections.read_set),
    (_collections.is_tuple, _collections.write_tuple, _collections.read_tuple),
    (_collections.is_dict, _collections.write_dict, _collections.read_dict),
    (_unions.is_union, _unions.write_union, _unions.read_union),
    (is_named_tuple, _records.write_named_tuple, _records.read_named_tuple),
    (_is_typed_dict, _records.write_typed_dict, _records.read_typed_dict),
    (has_fields, _records.write_class, _records.read_class),
)
