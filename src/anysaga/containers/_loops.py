"""Which event loop runs here, for packages that know one of them only."""

from __future__ import annotations

import sys


def runs_on_trio() -> bool:
    """Whether the code that asks runs on Trio. Does not import it."""
    trio = sys.modules.get("trio")
    return trio is not None and bool(trio.lowlevel.in_trio_run())
