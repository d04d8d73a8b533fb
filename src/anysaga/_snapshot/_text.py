"""JSON text: writing and reading it within the limits, its digest, and texts of errors that any store takes."""

from __future__ import annotations

import json
import json.encoder
import re
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, NoReturn, Protocol

from anysaga._errors import NotReadable
from anysaga._limits import MAX_CONTEXT_BYTES, MAX_ERROR_BYTES, MAX_NESTING

from ._misfit import NOT_FINITE, TOO_BIG, TOO_DEEP, TOO_LONG_NUMBER, Misfit

CUT_MARK = " [cut]"
NUL_ESCAPED = "\\u0000"
SHORT = 2 * MAX_NESTING  # a text of so many characters is neither too big nor nested too deeply

_UNWRITABLE = re.compile("[\0\ud800-\udfff]")


def _refuse_constant(_: str) -> NoReturn:
    raise Misfit(NOT_FINITE)


# check_circular is off because the hooks build a fresh tree.
_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":"))
_canonical = json.JSONEncoder(ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))
_decoder = json.JSONDecoder(parse_constant=_refuse_constant)


def write_text(plain: Any) -> str:
    """JSON text of plain values, within the limits of size and nesting, or `Misfit`."""
    try:
        text = dumps(plain)
    except ValueError:
        # Hooks have refused NaN, so what is left is the limit on the digits of an int.
        raise Misfit(TOO_LONG_NUMBER) from None
    check_limits(text, plain)
    return text


def check_limits(text: str, plain: Any) -> None:
    """Raise `Misfit` for plain values that are nested too deeply, or whose text is too big."""
    check_size(text)
    if text.count("[") + text.count("{") > MAX_NESTING:
        _check_nesting(plain)


def read_text(text: str) -> Any:
    """The plain values of JSON text within the limits, or `Misfit`."""
    check_size(text)
    try:
        plain = loads(text)
    except json.JSONDecodeError:
        raise Misfit("it is not JSON") from None
    except ValueError:
        raise Misfit(TOO_LONG_NUMBER) from None
    if text.count("[") + text.count("{") > MAX_NESTING:
        _check_nesting(plain)
    return plain


def dumps(plain: Any) -> str:
    """Compact JSON text of plain values."""
    return "".join(_encode(plain, 0))


def dumps_bytes(plain: Any) -> bytes:
    """The same text in UTF-8. Raises `UnicodeEncodeError` for a lone surrogate."""
    return dumps(plain).encode()


def _make_encode() -> Callable[[Any, int], Iterable[str]]:
    """The encoder in C, made once: `JSONEncoder.encode` makes one a call, which costs as much as the work itself."""
    make: Any = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return lambda plain, _: (_encoder.encode(plain),)
    no = False  # neither sorted keys, nor skipped ones, nor NaN
    encode: Callable[[Any, int], Iterable[str]] = make(
        None, _encoder.default, json.encoder.encode_basestring, None, ":", ",", no, no, no
    )
    return encode


_encode = _make_encode()


def quick_dumps() -> Callable[[Any], bytes]:
    """`dumps_bytes` for values without floats: that of orjson, where it is installed, the same text to the letter.

    orjson writes exponents of floats, and NaN, in its own way; it raises for lone surrogates, and for ints of more
    than 64 bits. Reading stays with `loads`, since orjson turns such ints into floats; and it is seldom.
    """
    try:
        import orjson  # noqa: PLC0415 - optional, and `import anysaga` is to import no such thing
    except ImportError:
        return dumps_bytes
    return orjson.dumps


def has_odd_characters(text: str) -> bool:
    """Whether the strings in JSON text may have characters that no store takes, so that each must be looked at."""
    return "\\u" in text or not (text.isascii() or _UNWRITABLE.search(text) is None)


def loads(text: str) -> Any:
    """The plain values of JSON text."""
    try:
        plain, end = _decoder.scan_once(text, 0)  # type: ignore[attr-defined]  # typeshed leaves it out
    except StopIteration:
        plain, end = None, -1
    # Ours has nothing around it, and `decode` looks for that with regular expressions. Of any other text it knows more.
    return plain if end == len(text) else _decoder.decode(text)


def check_size(text: str) -> None:
    """Raise `Misfit` for a text that is too big."""
    if is_too_big(text):
        raise Misfit(TOO_BIG)


def is_too_big(text: str) -> bool:
    """Whether no store takes a text. An UTF-8 character has at most 4 bytes, so most are not encoded to tell."""
    return len(text) * 4 > MAX_CONTEXT_BYTES and len(text.encode("utf-8", "surrogatepass")) > MAX_CONTEXT_BYTES


def _check_nesting(plain: Any) -> None:
    """Walk level by level, since recursion is what must not happen here."""
    level = _containers([plain])
    for _ in range(MAX_NESTING):
        if not level:
            return
        level = [inner for outer in level for inner in _containers(outer.values() if type(outer) is dict else outer)]
    if level:
        raise Misfit(TOO_DEEP)


def _containers(values: Iterable[Any]) -> list[Any]:
    return [value for value in values if isinstance(value, dict | list)]


def digest(text: str) -> str:
    """SHA-256, in hex, of JSON text that a codec wrote: the same for equal values, in whatever order their dicts are.

    A dict whose keys are no `str` is stored as a list of pairs, so there the order counts. Raises `NotReadable` if
    the text is not JSON.
    """
    if text[:1] == "{" and text[-1:] == "}" and text.count("{") == 1:
        return _sha256()(text.encode()).hexdigest()  # one flat object: a codec writes its fields in their order
    try:
        return _sha256()(_canonical.encode(loads(text)).encode()).hexdigest()
    except (ValueError, RecursionError, Misfit):
        raise NotReadable("a digest", "it is not JSON") from None


class _Hash(Protocol):
    def hexdigest(self) -> str: ...


@cache
def _sha256() -> Callable[[bytes], _Hash]:
    from hashlib import sha256  # noqa: PLC0415 - a tenth of what importing anysaga may cost

    return sha256


def fit_error(text: str) -> str:
    """Make any text one that every store takes.

    NUL characters and lone surrogates become U+FFFD. What is longer than `MAX_ERROR_BYTES` bytes of UTF-8 is cut
    between two characters and ends with ``[cut]``; the mark is within the limit.
    """
    if len(text) <= MAX_ERROR_BYTES and text.isascii() and "\0" not in text:
        return text  # as nearly all are
    writable = _UNWRITABLE.sub("\N{REPLACEMENT CHARACTER}", text)
    data = writable.encode()
    if len(data) <= MAX_ERROR_BYTES:
        return writable
    return data[: MAX_ERROR_BYTES - len(CUT_MARK)].decode("utf-8", "ignore") + CUT_MARK
