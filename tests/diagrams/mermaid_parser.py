"""The real Mermaid parser, in a process of node that answers diagram by diagram."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

PACKAGES = ("mermaid@11.17.2", "jsdom@26.1.0")
SCRIPT = Path(__file__).parent / "parse_mermaid.mjs"


class NoParser(Exception):
    """There is no parser on this machine, and no way to get it."""


class MermaidParser:
    """Tells what Mermaid thinks of a diagram."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def type_of(self, diagram: str) -> str:
        """The type of a valid diagram. Fails with the parser's words for any other."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(diagram) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the parser has ended"
        answer = json.loads(line)
        assert "error" not in answer, f"{answer['error']}\n\n{diagram}"
        return str(answer["type"])


@contextmanager
def mermaid_parser() -> Iterator[MermaidParser]:
    """Install the parser into a folder of this run, and start it. Raises `NoParser`."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise NoParser("node and npm are not installed")
    with TemporaryDirectory(prefix="anysaga-mermaid-") as folder:
        _install(npm, folder)
        script = shutil.copy(SCRIPT, folder)  # node looks for packages beside the script
        with subprocess.Popen(
            [node, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        ) as process:
            yield MermaidParser(process)


def _install(npm: str, folder: str) -> None:
    command = [npm, "install", "--no-save", "--no-audit", "--no-fund", "--prefer-offline", *PACKAGES]
    try:
        subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=True)
    except subprocess.CalledProcessError as error:
        why = next((line for line in error.stderr.splitlines() if line.startswith("npm error")), "it does not say why")
        raise NoParser(f"npm cannot install {' '.join(PACKAGES)}: {why}") from error
    except subprocess.TimeoutExpired as error:
        raise NoParser(f"npm did not install {' '.join(PACKAGES)} within {error.timeout:g} s") from error
