"""For tests of your own stores. Needs pytest; run by AnyIO's pytest plugin, on asyncio and Trio."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("anysaga.testing._storage")

from anysaga.testing._storage import StorageConformance  # noqa: E402 - rewriting must be asked for before the import

__all__ = ["StorageConformance"]
