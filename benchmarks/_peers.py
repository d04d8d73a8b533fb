"""Other libraries beside which anysaga is measured. They need not be installed: `nox -s bench` installs them.

Each has a module here that imports it, of functions that say what a saga costs in seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from attrs import frozen


@frozen
class Peer:
    """A library: the distribution to install, and our module that uses it."""

    distribution: str
    module: str

    def subject(self, function: str, *arguments: Any) -> Callable[[], float] | None:
        """A call of a function of the peer's module; None if the peer, or something that it needs, is missing."""
        run = self._function(function)
        return None if run is None else lambda: float(run(*arguments))

    def subject_at(self, function: str, *arguments: Any) -> Callable[[str], float] | None:
        """The same for a function whose first argument is the address of a database."""
        run = self._function(function)
        return None if run is None else lambda address: float(run(address, *arguments))

    def _function(self, name: str) -> Callable[..., Any] | None:
        try:
            return getattr(import_module(self.module), name)  # type: ignore[no-any-return]
        except ImportError:
            return None


PYTHON_CQRS = Peer("python-cqrs", "benchmarks._peers_cqrs")
DBOS = Peer("dbos", "benchmarks._peers_dbos")


def versions(*distributions: str) -> Mapping[str, str]:
    """What is installed of these."""
    found: dict[str, str] = {}
    for distribution in distributions:
        try:
            found[distribution] = version(distribution)
        except PackageNotFoundError:
            found[distribution] = "not installed"
    return found
