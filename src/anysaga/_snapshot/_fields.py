"""The fields of attrs classes, dataclasses, named tuples and typed dicts, with their types resolved."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterable
from types import BuiltinFunctionType, FunctionType
from typing import (
    Annotated,
    Any,
    Final,
    ForwardRef,
    Generic,
    NewType,
    Protocol,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

import attrs

from ._misfit import Misfit, type_name

AT_RUN_TIME = (
    "is not known at run time: import it outside of `if TYPE_CHECKING:`, and define it at the top level of its module"
)

IN_QUOTES = "only a name in quotes, and nobody looks it up: write the class itself, below its definition"

_OF_ATTRS = type(attrs.field())
_MADE_FOR_ATTRS = (
    "it is declared with a field of attrs, which a dataclass takes for a default: write @define above the class, "
    "or use dataclasses.field(), which for a secret is `Annotated[..., secret] = field(repr=False)`"
)
_MADE_FOR_DATACLASSES = (
    "it is declared with dataclasses.field(), which attrs takes for a default: use attrs.field(), or write @dataclass "
    "above the class"
)


@attrs.frozen
class Field:
    """One field. `annotation` keeps what `Annotated` says, `kind` does not.

    `default` makes the value for a stored text that has no such field; it is None where a value is required.
    """

    name: str
    annotation: Any
    kind: Any
    default: Callable[[Any], Any] | None
    metadata: Any


def bare(kind: Any) -> Any:
    """The type behind `Annotated`, `Final`, `NewType` and type aliases."""
    while (inner := unwrapped(kind)) is not kind:
        kind = inner
    return kind


def unwrapped(kind: Any) -> Any:
    """The same without the outermost of these, so that what it says can be read one by one."""
    if get_origin(kind) is Annotated:
        return kind.__origin__
    if get_origin(kind) is Final:
        return get_args(kind)[0]
    if isinstance(kind, NewType):
        return kind.__supertype__
    if type(kind).__name__ == "TypeAliasType":
        return kind.__value__
    return type(None) if kind is None else kind


def has_fields(kind: Any) -> bool:
    """Whether this is an attrs class or a dataclass, or a generic one with its arguments."""
    cls = get_origin(kind) or kind
    return isinstance(cls, type) and (attrs.has(cls) or dataclasses.is_dataclass(cls))


def is_named_tuple(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields")


def fields_of(kind: Any) -> tuple[Field, ...]:
    """All fields in their order, `init=False` and inherited ones too. Raises `Misfit` that names a field."""
    cls: Any = get_origin(kind) or kind
    found: list[tuple[str, Any, Any, Any]]
    bindings = _bindings(kind)
    _refuse_undecorated(cls)
    if attrs.has(cls):
        for a in attrs.fields(cls):
            _refuse_mistake(a.name, a.default, converted=a.converter is not None)
        found = [(a.name, a.type, _attrs_default(a), a.metadata) for a in attrs.fields(cls)]
    elif has_fields(cls):
        for f in dataclasses.fields(cls):
            _refuse_mistake(f.name, f.default)
        found = [(f.name, f.type, _dataclass_default(f), f.metadata) for f in dataclasses.fields(cls)]
    else:
        found = [(name, None, None, {}) for name in (cls.__annotations__ if is_typeddict(cls) else cls._fields)]
    return tuple(
        Field(name, *_types(cls, name, declared, bindings), default, metadata)
        for name, declared, default, metadata in found
    )


def _refuse_undecorated(cls: Any) -> None:
    """Raise `Misfit` for a subclass that is not decorated as its base is: what it declares itself would be lost.

    One of a dataclass that declares nothing loses nothing; of one of an attrs class attrs can tell nothing.
    """
    if not has_fields(cls):
        return
    if attrs.has(cls) and dataclasses.is_dataclass(cls):
        raise Misfit(
            f"{cls.__name__} and its bases are partly attrs classes and partly dataclasses: decorate all alike"
        )
    if not vars(cls).keys().isdisjoint(("__attrs_attrs__", "__dataclass_fields__")):
        return
    own = next((name for name, kind in _own_annotations(cls).items() if "ClassVar" not in str(kind)), None)
    if own is not None or attrs.has(cls):
        decorator = "@define" if attrs.has(cls) else "@dataclass"
        problem = f"only a base of {cls.__name__} is decorated: write {decorator} above {cls.__name__}, too"
        raise Misfit(problem, f".{own}" if own else "")


def _refuse_mistake(name: str, default: Any, *, converted: bool = False) -> None:
    """Raise `Misfit` for a default that was meant for something else, as ``secret()`` in a dataclass is.

    It would itself be the value of the field, and where a secret was meant, hide nothing.
    """
    if isinstance(default, _OF_ATTRS):
        raise Misfit(_MADE_FOR_ATTRS, f".{name}")
    if isinstance(default, dataclasses.Field):
        raise Misfit(_MADE_FOR_DATACLASSES, f".{name}")
    if isinstance(default, FunctionType | BuiltinFunctionType) and not converted:
        called = f"its default is the function {default.__name__} itself"
        raise Misfit(f"{called}: call it, or make it the factory of the field", f".{name}")


def _names_a_field_of_attrs(annotation: Any) -> bool:
    return isinstance(annotation, _OF_ATTRS) or any(map(_names_a_field_of_attrs, get_args(annotation)))


def hidden_state(cls: type, fields: Iterable[Field]) -> tuple[str, ...]:
    """Slots that are no fields: what attrs keeps there (cached properties) is stale once fields are replaced."""
    names = {field.name for field in fields}
    slots = [vars(base).get("__slots__", ()) for base in cls.__mro__]
    flat = {slot for each in slots for slot in ((each,) if isinstance(each, str) else each)}
    return tuple(flat - names - {"__dict__", "__weakref__"})


def _types(cls: type, name: str, declared: Any, bindings: dict[Any, Any]) -> tuple[Any, Any]:
    """The annotation and the kind of a field."""
    owner = next((base for base in cls.__mro__ if name in _own_annotations(base)), None)
    if owner is None and declared is None:
        raise Misfit("it has no type annotation", f".{name}")
    if declared is None and owner is not None:
        declared = _own_annotations(owner)[name]
    try:
        annotation = _resolve(owner or cls, declared, include_extras=True)
        kind = _resolve(owner or cls, declared, include_extras=False)
    except NameError as error:
        raise Misfit(f"its type {error.name!r} {AT_RUN_TIME}", f".{name}") from None
    except Exception:  # noqa: BLE001 - evaluating an annotation may raise anything
        raise Misfit(f"its annotation {declared!r} cannot be resolved", f".{name}") from None
    if _names_a_field_of_attrs(annotation):
        raise Misfit(
            "a field of attrs stands in its type: a secret is `Annotated[..., secret]`, not called", f".{name}"
        )
    return annotation, _bind(kind, bindings.get(owner, {}))


def _own_annotations(cls: type) -> dict[str, Any]:
    if sys.version_info >= (3, 14):
        from annotationlib import Format, get_annotations  # noqa: PLC0415 - new in 3.14

        return dict(get_annotations(cls, format=Format.FORWARDREF))
    own = vars(cls).get("__annotations__")
    return dict(own) if isinstance(own, dict) else {}  # that of `type` itself is a descriptor


def _resolve(owner: type, declared: Any, *, include_extras: bool) -> Any:
    """Resolve one annotation alone, so that a failure has a field to name.

    A field is no type: ``date: date`` means what the module calls so, not the field's slot or its default.
    """
    parameters = {each.__name__: each for each in getattr(owner, "__parameters__", ())}
    module = vars(sys.modules[owner.__module__])
    fields = _own_annotations(owner)
    inside = {name: value for name, value in vars(owner).items() if name not in fields}
    holder: Any = type("Holder", (), {"__annotations__": {"it": declared}})  # `Final` is for classes
    hints = get_type_hints(holder, module, {**inside, **parameters}, include_extras=include_extras)
    return hints["it"]


def _bindings(kind: Any) -> dict[Any, dict[Any, Any]]:
    """What each class of the hierarchy has for its type variables: two classes may share one variable."""
    cls = get_origin(kind) or kind
    own = dict(zip(getattr(cls, "__parameters__", ()), get_args(kind), strict=False))
    found = {cls: own}
    for base in vars(cls).get("__orig_bases__", cls.__bases__):
        if isinstance(get_origin(base) or base, type) and get_origin(base) not in (Generic, Protocol):
            found.update(_bindings(_bind(base, own)))
    return found


def _bind(kind: Any, bound: dict[Any, Any]) -> Any:
    if isinstance(kind, TypeVar):
        return bound.get(kind, kind)
    parameters = getattr(kind, "__parameters__", ())
    if not parameters or (isinstance(kind, type) and get_origin(kind) is None):
        return kind
    generic: Any = kind
    return generic[tuple(bound.get(parameter, parameter) for parameter in parameters)]


def _attrs_default(attribute: Any) -> Callable[[Any], Any] | None:
    """As attrs' own `__init__` does it: a factory may take the half-made value, a converter has the last word."""
    default: Any = attribute.default
    convert: Any = attribute.converter
    takes_all = isinstance(convert, attrs.Converter)
    if default is attrs.NOTHING:
        return None

    def make(instance: Any) -> Any:
        value = default
        if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
            value = default.factory(instance) if default.takes_self else default.factory()
        if convert is None:
            return value
        return convert(value, instance, attribute) if takes_all else convert(value)

    return make


def _dataclass_default(field: dataclasses.Field[Any]) -> Callable[[Any], Any] | None:
    if field.default_factory is not dataclasses.MISSING:
        factory = field.default_factory
        return lambda _: factory()
    if field.default is dataclasses.MISSING:
        return None
    return lambda _: field.default


def refusal(kind: Any) -> Misfit:
    """Why a type has no format, with the way out."""
    if isinstance(kind, TypeVar):
        return Misfit(f"its type variable {kind.__name__} is open: write the class with its argument in brackets")
    if isinstance(kind, ForwardRef | str):
        return Misfit(f"its type {quoted(kind)!r} is {IN_QUOTES}")
    hint = _HINTS.get(type_name(get_origin(kind) or kind)) or (_TO_A_CLASS if _is_own_class(kind) else "")
    return Misfit(f"its type {type_name(kind)} has no stored form{hint}")


def quoted(kind: Any) -> str | None:
    """The name that stands in quotes in the place of a type; None for a type."""
    return kind.__forward_arg__ if isinstance(kind, ForwardRef) else kind if isinstance(kind, str) else None


def _is_own_class(kind: Any) -> bool:
    """Whether it is a class that says what it holds, as one of pydantic does, or one that nobody decorated."""
    cls = get_origin(kind) or kind
    return isinstance(cls, type) and bool(_own_annotations(cls))


_TO_A_CLASS = ": make it a dataclass or an attrs class"
_HINTS = {
    "Sequence": ": write list or tuple",
    "MutableSequence": ": write list",
    "Iterable": ": write list",
    "Mapping": ": write dict",
    "MutableMapping": ": write dict",
    "Set": ": write set or frozenset",
    "MutableSet": ": write set",
}
