"""An example that is a server: started in a process of its own, and asked by a plain client."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anysaga

EXAMPLES = Path(__file__).parent.parent / "examples"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(anysaga.__file__).parent.parent)}


@contextmanager
def served_example(example: str, folder: Path, port: int = 0) -> Iterator[int]:
    """Serve an example from a folder; gives its port. It is shut down by SIGTERM."""
    command = [sys.executable, str(EXAMPLES / example), "--port", str(port)]
    with subprocess.Popen(
        command, cwd=folder, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as server:
        try:
            assert server.stdout is not None
            address = server.stdout.readline().strip()
            assert address.startswith("open http://127.0.0.1:"), address + server.stdout.read()
            yield int(address.removesuffix("/").rpartition(":")[2])
        finally:
            server.terminate()
            server.communicate(timeout=30)


def events_from(port: int, path: str, after: str = "") -> Generator[tuple[str, dict[str, Any]], None, None]:
    """The events at an address, each with the last id that was seen with it."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path, headers={"Last-Event-ID": after} if after else {})
        response = connection.getresponse()
        assert response.status == 200
        while line := response.readline().decode():
            if line.startswith("id: "):
                after = line.removeprefix("id: ").strip()
            elif line.startswith("data: "):
                yield after, json.loads(line.removeprefix("data: "))
    finally:
        connection.close()
