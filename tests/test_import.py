"""What `import anysaga` brings along. What it costs is a benchmark's business, not a test's."""

from __future__ import annotations

import subprocess
import sys

import pytest

# Imports anysaga as the first thing in a new interpreter, and prints the top-level packages that came with it.
SCRIPT = """
import sys
before = set(sys.modules)
import anysaga
print(*sorted({name.partition(".")[0] for name in set(sys.modules) - before}))
"""

OPTIONAL = {
    "aio_pika",
    "aiokafka",
    "aiosqlite",
    "asyncpg",
    "confluent_kafka",
    "dependency_injector",
    "di",
    "dishka",
    "fastapi",
    "greenlet",
    "opentelemetry",
    "orjson",
    "psycopg",
    "pymysql",
    "sqlalchemy",
    "svcs",
    "trio",
}
TEST_TOOLS = {"hypothesis", "pytest", "unittest"}


@pytest.fixture(scope="module")
def imported() -> set[str]:
    """The packages that `import anysaga` loads in an interpreter of its own, where warnings are errors."""
    command = [sys.executable, "-W", "error", "-c", SCRIPT]
    done = subprocess.run(command, capture_output=True, check=False, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_import_is_light(imported: set[str]) -> None:
    """`import anysaga` imports no optional package, though they are installed here, and no tool for tests."""
    assert not imported & (OPTIONAL | TEST_TOOLS)


def test_import_is_whole(imported: set[str]) -> None:
    """`import anysaga` makes sagas ready to run: its core is loaded with it."""
    assert {"anysaga", "anyio", "attr", "cattrs"} <= imported
