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
    "aiobreaker",
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


# Brings in everything as a beginner would, and asks for help, where no optional package can be found.
BARE_SCRIPT = """
import importlib.util, pydoc, sys

OPTIONAL = set(sys.argv[1:])
find = importlib.util.find_spec

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in OPTIONAL:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
importlib.util.find_spec = lambda name, package=None: None if name in OPTIONAL else find(name, package)

names = {}
exec("from anysaga import *", names)
import anysaga, anysaga.containers, anysaga.events.publishers, anysaga.integrations, anysaga.storages

packages = (anysaga.containers, anysaga.events.publishers, anysaga.integrations, anysaga.storages)
for module in (anysaga, *packages):
    assert not OPTIONAL or pydoc.render_doc(module)
    assert set(module.__all__) <= set(dir(module))
print(*sorted(names.keys() - {"__builtins__"}))
"""


@pytest.mark.parametrize("absent", [set(), OPTIONAL], ids=["everything", "the core alone"])
def test_a_star_brings_all_names_and_no_others(absent: set[str]) -> None:
    """What is imported later too, and nothing that would hide a module of the user's; and `help` works."""
    command = [sys.executable, "-W", "error", "-c", BARE_SCRIPT, *absent]
    done = subprocess.run(command, capture_output=True, check=False, text=True)
    assert done.returncode == 0, done.stderr
    names = set(done.stdout.split())
    assert {"Saga", "SagaMediator", "bootstrap", "NextSaga"} <= names
    assert ("SQLAlchemyStorage" in names) is (not absent)
    assert not names & {"abc", "annotations", "import_module", "storages", "TYPE_CHECKING", "ModuleType"}
