"""The checks of anysaga, one session each: `nox --list` shows them, `nox -s lint` runs one."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import nox
from packaging.requirements import Requirement

PROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = nox.project.python_versions(PROJECT)
SOURCES = [name for name in ("src", "tests", "benchmarks", "examples", "noxfile.py") if Path(name).exists()]

FLAKE8_ASYNC = (
    "--isolated",
    "--anyio",
    "--select=ASYNC",
    # Every rule is on, ASYNC900 (no scope is held open across a yield, PEP 789) included, but
    # ASYNC100, "a scope without a checkpoint", and ASYNC300, "a task nobody holds": each goes through all files for
    # half a minute, and ruff's ASYNC100 and RUF006 find the same;
    # ASYNC106, "import anyio": ruff and the reader take `from anyio import …` as well;
    # ASYNC124, "could be sync": contracts and steps are async whether or not one of them has something to await;
    # ASYNC910 to ASYNC913, "a checkpoint on every path": a store in memory answers without one.
    "--disable=ASYNC100,ASYNC106,ASYNC124,ASYNC300,ASYNC910,ASYNC911,ASYNC912,ASYNC913",
)

nox.needs_version = ">=2025.5.1"
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "floors", "typing", "tests", "coverage"]


def install(session: nox.Session) -> None:
    """Install anysaga with all that its checks need."""
    session.install("--editable", ".[test,dev]")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the tests on each supported Python; one that is not installed is skipped, except in CI."""
    install(session)
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, and the rules of structured concurrency."""
    install(session)
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("flake8", *FLAKE8_ASYNC, *_asynchronous_files())


def _asynchronous_files() -> list[str]:
    """The files of the library and of the examples that flake8-async can say anything about.

    To the tests ruff applies its own rules of this kind: going through them takes two thirds of flake8-async's time.
    """
    files = [file for source in ("src", "examples") for file in Path(source).rglob("*.py")]
    return [str(file) for file in files if any(word in file.read_text() for word in ("async ", "anyio", "trio"))]


@nox.session
def floors(session: nox.Session) -> None:
    """Check that a file imports only from floors below its own."""
    install(session)
    session.run("lint-imports")


@nox.session
def typing(session: nox.Session) -> None:
    """Check types with mypy and pyright."""
    install(session)
    session.run("mypy", *SOURCES)
    session.run("pyright", *SOURCES)


@nox.session
def coverage(session: nox.Session) -> None:
    """Run the tests and fail below the coverage that pyproject.toml asks for."""
    install(session)
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", *session.posargs)
    session.run("coverage", "combine")
    session.run("coverage", "report")


@nox.session
def lowest(session: nox.Session) -> None:
    """Run the tests with the oldest releases of what anysaga uses that pyproject.toml allows."""
    constraints = Path(session.create_tmp()) / "lowest.txt"
    constraints.write_text("\n".join(_oldest_allowed()))
    session.install("--editable", ".[test]", "--constraint", str(constraints))
    session.run("python", "-m", "pytest", *session.posargs)


def _oldest_allowed() -> list[str]:
    """The lower bounds of what anysaga and its tests require, each as the one release that is allowed."""
    project = PROJECT["project"]
    extras = [some for extra, some in project["optional-dependencies"].items() if extra not in ("dev", "bench")]
    wanted = [Requirement(each) for each in chain(project["dependencies"], *extras)]
    bounds = {each.name: bound.version for each in wanted for bound in each.specifier if bound.operator == ">="}
    return [f"{name}=={version}" for name, version in sorted(bounds.items())]


@nox.session
def bench(session: nox.Session) -> None:
    """Run the benchmarks beside their peers: the whole table, or what is asked for behind `--`."""
    session.install("--editable", ".[bench]")
    session.run("python", "-m", "benchmarks", *(session.posargs or ["--all"]))
