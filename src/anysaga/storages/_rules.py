"""The rules under their former name: `anysaga.storages.rules` has them."""

from __future__ import annotations

from anysaga.storages.rules import patience, purgeable, same_entries

__all__ = ["patience", "purgeable", "same_entries"]
