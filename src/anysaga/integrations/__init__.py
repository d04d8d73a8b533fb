"""Other libraries in the place of our own parts. Each needs its package, and is imported when it is first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anysaga.integrations._aiobreaker import AioBreakerAdapter as AioBreakerAdapter


def __getattr__(name: str) -> object:
    if name != "AioBreakerAdapter":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from anysaga.integrations._aiobreaker import AioBreakerAdapter  # noqa: PLC0415 - needs a package of its own

    AioBreakerAdapter.__module__ = __name__
    return AioBreakerAdapter
