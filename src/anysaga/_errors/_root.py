"""The root of all errors of anysaga."""

from __future__ import annotations


class AnysagaError(Exception):
    """The root of all errors of anysaga."""
