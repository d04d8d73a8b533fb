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


# Lets nobody find the packages of its arguments.
ABSENCE = """
import importlib.util, sys

OPTIONAL = set(sys.argv[1:])
find = importlib.util.find_spec

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in OPTIONAL:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
importlib.util.find_spec = lambda name, package=None: None if name in OPTIONAL else find(name, package)
"""

# Brings in everything as a beginner would, and asks for help, where no optional package can be found.
BARE_SCRIPT = f"""{ABSENCE}
import pydoc

import anysaga, anysaga.containers, anysaga.events.publishers, anysaga.integrations, anysaga.storages

packages = (anysaga.containers, anysaga.events.publishers, anysaga.integrations, anysaga.storages)
names = {{}}
for module in (anysaga, *packages):
    assert not OPTIONAL or pydoc.render_doc(module)
    assert set(module.__all__) <= set(dir(module))
    exec(f"from {{module.__name__}} import *", names)
print(*sorted(names.keys() - {{"__builtins__"}}))
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
    assert not names & {"abc", "annotations", "import_module", "storages", "Any", "TYPE_CHECKING", "ModuleType"}


EXTRAS = {
    "anysaga SQLAlchemyStorage": "sql",
    "anysaga.testing StorageConformance": "testing",
    "anysaga.containers DependencyInjectorContainer": "dependency-injector",
    "anysaga.containers DiContainer": "di",
    "anysaga.containers DishkaContainer": "dishka",
    "anysaga.containers SvcsContainer": "svcs",
    "anysaga.events.publishers AioKafkaPublisher": "kafka",
    "anysaga.events.publishers KafkaPublisher": "kafka",
    "anysaga.events.publishers RabbitMQPublisher": "rabbitmq",
    "anysaga.integrations AioBreakerAdapter": "aiobreaker",
    "anysaga.integrations OpenTelemetryMiddleware": "otel",
    "anysaga.integrations saga_events": "fastapi",
}

# Imports each of these, and prints how it is refused: one line each.
MISSING_SCRIPT = f"""{ABSENCE}
from anysaga import MissingDriver, MissingPackage

for wanted in {list(EXTRAS)}:
    module, name = wanted.split()
    try:
        exec(f"from {{module}} import {{name}}")
    except (MissingDriver, MissingPackage) as error:
        print(error)
"""


def test_each_part_names_the_extra_that_it_lacks() -> None:
    """With the command that installs it; also the suite for storages of one's own, which needs pytest."""
    command = [sys.executable, "-W", "error", "-c", MISSING_SCRIPT, *OPTIONAL, "pytest"]
    done = subprocess.run(command, capture_output=True, check=False, text=True)
    assert done.returncode == 0, done.stderr
    told = [line.partition("pip install ")[2] for line in done.stdout.splitlines()]
    assert told == [f"'anysaga[{extra}]'" for extra in EXTRAS.values()]
