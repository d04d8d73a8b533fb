"""The page of the FastAPI example in a real browser: Chromium without a screen."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from served_example import served_example

CHROMIUM = shutil.which("chromium")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: install Debian's package of this name")

QUIET = (  # it is alone with the page: no sandbox for root, and nobody else to talk to
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def dom_of(url: str, folder: Path) -> str:
    """What a page has become once all of its events were told."""
    command = [CHROMIUM or "", *QUIET, f"--user-data-dir={folder}", "--virtual-time-budget=60000", "--dump-dom", url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


def test_the_page_shows_the_steps_and_the_end_of_an_order(tmp_path: Path) -> None:
    with served_example("fastapi_sse.py", tmp_path) as port:
        dom = dom_of(f"http://127.0.0.1:{port}/?item=tea", tmp_path / "profile")
    assert (
        '<ol id="steps"><li id="ReserveItem">ReserveItem: tea on shelf 4</li>'
        '<li id="BookCourier">BookCourier: tomorrow at 9</li><li id="ChargeCard">ChargeCard: 8 euros paid</li></ol>'
    ) in dom
    assert '<p id="error"></p>\n<p id="state">COMPLETED</p>' in dom


def test_the_page_shows_what_is_undone_and_why(tmp_path: Path) -> None:
    with served_example("fastapi_sse.py", tmp_path) as port:
        dom = dom_of(f"http://127.0.0.1:{port}/?item=a+pot", tmp_path / "profile")
    assert '<li id="ReserveItem" class="undone">' in dom
    assert '<li id="BookCourier" class="undone">' in dom
    assert "the card has too little for a pot</p>" in dom
    assert '<p id="state">COMPENSATED</p>' in dom
