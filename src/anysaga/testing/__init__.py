"""For tests of your own stores, run by AnyIO's pytest plugin, on asyncio and Trio. Needs the extra `testing`."""

from __future__ import annotations

from anysaga._errors import MissingPackage

try:
    import pytest
except ImportError as error:
    raise MissingPackage("pytest", "testing") from error

pytest.register_assert_rewrite("anysaga.testing._storage")

from anysaga.testing._storage import StorageConformance  # noqa: E402 - rewriting must be asked for before the import

__all__ = ["StorageConformance"]
