"""The code in README.md and docs/ is code: whole programs run, excerpts compile, and all names exist."""

from __future__ import annotations

import ast
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path
from pkgutil import iter_modules, resolve_name
from typing import Any

import pytest

import anysaga

ROOT = Path(__file__).parent.parent
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / "README.md", *DOCS, ROOT / "benchmarks" / "README.md", ROOT / "examples" / "README.md"]
BLOCKS = [
    (page.name, block) for page in PAGES for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
]
LINKS = [(page, link) for page in PAGES for link in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text())]


LEFT_TO_THE_READER = """
import dataclasses

@dataclasses.dataclass
class Reservation:
    shelf: str

@dataclasses.dataclass
class ItemReserved:
    item: str

class Warehouse:
    async def reserve(self, item, key):
        return "shelf 4"

    async def release(self, key):
        pass

def bind_sagas(sagas):
    sagas.bind(Order, OrderSaga)

container = {Warehouse: Warehouse}
"""


@pytest.mark.parametrize(("page", "block"), BLOCKS)
def test_code_compiles(page: str, block: str) -> None:
    """Every block of Python is valid, with `await` allowed, and imports only names that anysaga has."""
    tree = compile(block, page, "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "anysaga":
            assert [alias.name for alias in node.names if not hasattr(anysaga, alias.name)] == []


def test_the_first_program_of_the_readme_runs(tmp_path: Path) -> None:
    """It prints a receipt, puts the item of the declined order back, and ends with the bank's own error."""
    program = next(block for page, block in BLOCKS if page == "README.md")
    (tmp_path / "program.py").write_text(program)
    environment = {**os.environ, "PYTHONPATH": str(Path(anysaga.__file__).parent.parent)}
    command = [sys.executable, "program.py"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.splitlines() == ["receipt-1", "ReserveItem is done", "a pot goes back to shelf 4"]
    assert "CardDeclined: no 30 euros on this card" in done.stderr
    assert "went back, undone: ReserveItem" in done.stderr


@pytest.mark.parametrize(("page", "link"), LINKS)
def test_links_lead_somewhere(page: Path, link: str) -> None:
    """A link to a file leads to a file that exists."""
    if "://" not in link:
        assert (page.parent / link).exists()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_nothing_is_said_twice(page: Path) -> None:
    """No heading of the first two levels stands twice on a page."""
    headings = re.findall(r"^##? .+", page.read_text(), re.MULTILINE)
    assert len(headings) == len(set(headings))


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_the_readme_leads_to_every_page(page: Path) -> None:
    """Who begins at the README finds each page of docs/."""
    assert f"](docs/{page.name})" in PAGES[0].read_text()


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.py")), ids=lambda example: example.name)
def test_every_example_is_listed_and_run(example: Path) -> None:
    """An example stands in the table of its folder, and a test runs it."""
    assert f"]({example.name})" in (ROOT / "examples" / "README.md").read_text()
    assert f'"{example.name}"' in (ROOT / "tests" / "test_examples.py").read_text()


@pytest.mark.parametrize("name", sorted(module.name for module in iter_modules(anysaga.__path__)))
def test_every_file_has_a_floor(name: str) -> None:
    """The table of floors names each file and folder of the package."""
    assert re.search(rf"`{name}/?`", (ROOT / "docs" / "design.md").read_text())


@pytest.mark.parametrize(
    "name", sorted(set(re.findall(r"`(anysaga(?:\.\w+)+)", (ROOT / "docs" / "coming-from-python-cqrs.md").read_text())))
)
def test_names_for_those_who_come_exist(name: str) -> None:
    """What a name of the predecessor became can be imported from where the table says."""
    assert resolve_name(name) is not None


@pytest.mark.anyio
async def test_the_program_for_those_who_come_runs() -> None:
    """The same order as the one above it on the page, with what both leave to the reader."""
    seen: list[str] = []
    before, after = [block for page, block in BLOCKS if page == "coming-from-python-cqrs.md"][:2]
    assert ("import cqrs" in before, "import cqrs" in after) == (True, False)
    names: dict[str, Any] = {"print": seen.append, "storage": anysaga.MemoryStorage()}
    exec(LEFT_TO_THE_READER, names)  # noqa: S102  # above
    program = eval(compile(after, "after", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)  # noqa: S307  # our own page
    await program
    assert seen == ["ReserveItem"]
    (summary,) = await names["storage"].find()
    assert summary.state is anysaga.SagaState.COMPLETED


def test_the_tests_of_the_docs_pass(tmp_path: Path) -> None:
    """The page on testing is a file of tests: an outage, a failure, and a process that dies."""
    (block,) = [block for page, block in BLOCKS if page == "testing.md"]
    (tmp_path / "test_orders.py").write_text(block)
    environment = {**os.environ, "PYTHONPATH": str(Path(anysaga.__file__).parent.parent)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, "-W", "error"]
    done = subprocess.run(
        [*command, str(tmp_path)], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert "3 passed" in done.stdout, done.stdout


def test_the_receiver_of_the_docs_keeps_its_law() -> None:
    """It does a known work once, undoes it once, and refuses an act that comes after its undo, known or not."""
    block = next(block for page, block in BLOCKS if page == "outcomes.md" and "class Receiver" in block)
    names: dict[str, Any] = {}
    exec(block, names)  # noqa: S102  # our own page
    effects: list[str] = []

    def charge() -> str:
        effects.append("charged")
        return "receipt-1"

    receiver = names["Receiver"](sqlite3.connect(":memory:"))
    assert [receiver.act("a", charge), receiver.act("a", charge)] == ["receipt-1", "receipt-1"]
    for key in ("a", "a", "b"):
        receiver.undo(key, effects.append)
    assert effects == ["charged", "receipt-1"]
    for key in ("a", "b"):
        with pytest.raises(PermissionError):
            receiver.act(key, charge)
