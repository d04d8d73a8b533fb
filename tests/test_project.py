"""Small laws of the project itself: what is written down twice must agree."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
PYPROJECT_TEXT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
PYPROJECT: dict[str, Any] = tomllib.loads(PYPROJECT_TEXT)
PROJECT: dict[str, Any] = PYPROJECT["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
FOR_DEVELOPERS = {"bench", "dev", "test", "testing"}


def supported_pythons() -> list[str]:
    return re.findall(r"Programming Language :: Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))


def test_the_version_is_written_once() -> None:
    """The version stands in `anysaga/__init__.py` and nowhere else: a build reads it there."""
    version = re.compile(r'^__version__ = "\d+\.\d+\.\d+\S*"$', re.MULTILINE)
    written = [path for path in (ROOT / "src").rglob("*.py") if version.search(path.read_text("utf-8"))]

    assert written == [ROOT / "src/anysaga/__init__.py"]
    assert "version" not in PROJECT
    assert ROOT / PYPROJECT["tool"]["hatch"]["version"]["path"] == written[0]


def test_the_oldest_python_is_the_required_one() -> None:
    """`requires-python`, ruff, mypy and pyright mean the first Python of the classifiers."""
    oldest = supported_pythons()[0]

    assert PROJECT["requires-python"] == f">={oldest}"
    assert PYPROJECT["tool"]["ruff"]["target-version"] == "py" + oldest.replace(".", "")
    assert PYPROJECT["tool"]["mypy"]["python_version"] == oldest
    assert PYPROJECT["tool"]["pyright"]["pythonVersion"] == oldest


def test_ci_runs_every_supported_python() -> None:
    """The workflow's Pythons are those of the classifiers."""
    workflow = (ROOT / ".github/workflows/checks.yml").read_text("utf-8")

    assert f"python-version: {supported_pythons()}".replace("'", '"') in workflow


def test_all_is_every_extra() -> None:
    """`anysaga[all]` brings every extra for users, and none for developers."""
    (everything,) = EXTRAS["all"]

    assert everything == f"anysaga[{','.join(sorted(EXTRAS.keys() - FOR_DEVELOPERS - {'all'}))}]"


def test_the_core_is_small() -> None:
    """`pip install anysaga` installs anyio, attrs, cattrs, and the typing-extensions that cattrs brings anyway."""
    core = {re.split(r"[^\w-]", requirement)[0] for requirement in PROJECT["dependencies"]}

    assert core == {"anyio", "attrs", "cattrs", "typing-extensions"}


def test_types_are_shipped() -> None:
    """Type checkers of users see our annotations."""
    assert (ROOT / "src/anysaga/py.typed").exists()


def test_switches_have_reasons() -> None:
    """A ruff rule that is off has its reason beside it."""
    rule = re.compile(r'^ {4}"[A-Z]+\d*",(?P<reason> *# .+)?$', re.MULTILINE)
    off = list(rule.finditer(PYPROJECT_TEXT))

    assert off
    assert [match[0] for match in off if not match["reason"]] == []


def test_ci_can_be_started() -> None:
    """`.ci/run` is executable, runs the tests as the README says, and fails where they do."""
    script = ROOT / ".ci/run"

    assert os.access(script, os.X_OK)
    assert "\npython -m pytest -n auto || failed=1\n" in script.read_text("utf-8")


def test_services_come_from_the_environment(
    require_service: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service is where its variable says."""
    monkeypatch.setenv("ANYSAGA_EXAMPLE_URL", "example://somewhere")

    assert require_service("example") == "example://somewhere"


@pytest.mark.parametrize(
    ("required", "outcome"), [("0", pytest.skip.Exception), ("1", pytest.fail.Exception)], ids=["skipped", "failed"]
)
def test_a_missing_service_is_told(
    require_service: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
    required: str,
    outcome: type[BaseException],
) -> None:
    """A test without its service is skipped, or fails where services are required, and says what to set."""
    monkeypatch.delenv("ANYSAGA_ABSENT_URL", raising=False)
    monkeypatch.setenv("ANYSAGA_REQUIRE_SERVICES", required)

    with pytest.raises(outcome, match="no absent here: set ANYSAGA_ABSENT_URL to its address"):
        require_service("absent")
