"""Every example runs as a newcomer would run it, and shows what its docstring says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from served_example import events_from, served_example

import anysaga

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(anysaga.__file__).parent.parent)}
EXAMPLES = Path(__file__).parent.parent / "examples"
BACKENDS = ["asyncio", "trio"]


def run(example: str, folder: Path, *arguments: str) -> str:
    """Run an example in an empty folder; returns what it prints."""
    command = [sys.executable, str(EXAMPLES / example), *arguments]
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("backend", BACKENDS)
def test_order(backend: str, tmp_path: Path) -> None:
    """One order goes through; of the other one everything is undone, in reverse; both are in the file."""
    good, bad = run("order.py", tmp_path, "--backend", backend).split("an order with a card that is empty:")
    assert good.splitlines()[1:] == [
        "  ReserveItems: tea and a pot",
        "  BookCourier: a parcel of 2",
        "  ChargeCard: 30 euros paid",
    ]
    assert bad.index("undo: a parcel of 2 called off") < bad.index("undo: tea and a pot back on the shelf")
    assert "undo: 30 euros" not in bad
    assert "failed: no 30 euros on this card" in bad
    assert "went back, undone: BookCourier, ReserveItems" in bad
    assert f"kept in {tmp_path / 'orders.db'}:" in bad
    assert sorted(re.findall(r": (COMP\w+)", bad)) == ["COMPENSATED", "COMPLETED"]
    assert (tmp_path / "orders.db").exists()


def test_order_again(tmp_path: Path) -> None:
    """A second run finds the sagas of the first in the file."""
    run("order.py", tmp_path)
    assert run("order.py", tmp_path).count(": COMPLETED") == 2


def test_order_blocking(tmp_path: Path) -> None:
    """Two orders go through; of the third the payment is undone, and the courier, who was never sent, is not."""
    output = run("order_blocking.py", tmp_path)
    assert "COMPLETED: tea on its way to Elm Street" in output
    assert "  ChargeAccount: 72\n  SendCourier: a pot on its way to Oak Street" in output
    assert "undo: the balance is 72 again" in output
    assert "called back" not in output
    assert "failed: there is no street to go to" in output
    assert (tmp_path / "orders.db").exists()


@pytest.mark.parametrize("backend", BACKENDS)
def test_recovery(backend: str, tmp_path: Path) -> None:
    """The saga of the killed process is completed, and paid once."""
    assert run("recovery.py", tmp_path, "--backend", backend).splitlines() == [
        "worker: payment sent",
        "worker killed",
        "recovered order-17: COMPLETED, was paid before",
        "the bank's book: 30 euros for order-17:1:act",
    ]


@pytest.mark.parametrize("backend", BACKENDS)
def test_retry_and_timeout(backend: str, tmp_path: Path) -> None:
    """Act and undo are each tried twice, act under one key."""
    output = run("retry_and_timeout.py", tmp_path, "--backend", backend)
    assert re.findall(r"attempt (\d) under (\S+)", output) == [("1", "parcel-1:1:act"), ("2", "parcel-1:1:act")]
    assert "BookCourier: the courier comes at noon (attempts: 2)" in output
    assert re.findall(r"call the courier off: attempt (\d)", output) == ["1", "2"]
    assert "failed: the bank says no\nsaga 'ParcelSaga' (parcel-1) went back, undone: BookCourier" in output


@pytest.mark.parametrize("backend", BACKENDS)
def test_parked(backend: str, tmp_path: Path) -> None:
    """The saga waits until a person has said what became of its pivot, and then goes on."""
    output = run("parked.py", tmp_path, "--backend", backend)
    assert "parked at Pay: nobody can say whether this point of no return took effect" in output
    assert "because of: ConnectionResetError" in output
    assert "  ticket-1: nobody can say" in output
    assert "resolved by a person: RUNNING\nrecovered: COMPLETED, ticket for Hamlet sent" in output


@pytest.mark.parametrize("backend", BACKENDS)
def test_background_recovery(backend: str, tmp_path: Path) -> None:
    """What the shop left in the middle is finished in the background."""
    assert run("background_recovery.py", tmp_path, "--backend", backend).splitlines() == [
        "shop: tea reserved, and that is all for now",
        "background: order-1 is COMPLETED",
    ]


def _fleet(folder: Path, *arguments: str) -> None:
    lines = run("fleet.py", folder, *arguments).splitlines()
    assert "first worker: pays tea for order-1 under order-1:2:act" in lines
    assert "second worker: pays tea for order-1 under order-1:2:act" in lines
    assert lines.index("first worker: killed") < lines.index(
        "completed: order-1 order-2 order-3 order-4 order-5 order-6"
    )
    assert "second worker: drained, exit status 0" in lines
    assert "second worker: reserves tea for order-1" not in lines


def test_fleet(tmp_path: Path) -> None:
    """The second worker takes over what the first one was killed in, under the same key, and not what it had done."""
    _fleet(tmp_path)


def test_fleet_on_a_server(tmp_path: Path, require_service: Callable[[str], str]) -> None:
    """The same on PostgreSQL."""
    _fleet(tmp_path, "--storage", require_service("postgres"))


@pytest.mark.skipif(sys.platform == "win32", reason="the example needs fcntl")
@pytest.mark.parametrize("backend", BACKENDS)
def test_own_storage(backend: str, tmp_path: Path) -> None:
    """The order is kept in the folder, with its whole log."""
    output = run("own_storage.py", tmp_path, "--backend", backend)
    assert f"COMPLETED, kept in {tmp_path / 'orders'}" in output
    assert re.findall(r"^  \d+ (\w+)", output, re.MULTILINE) == [*["STARTED", "DONE"] * 3, "COMPLETED"]
    assert (tmp_path / "orders" / "sagas.json").exists()


@pytest.mark.parametrize("backend", BACKENDS)
def test_fallback_order(backend: str, tmp_path: Path) -> None:
    """The third order does not call the primary at all, and each fallback starts from the context as it was."""
    output = run("fallback_order.py", tmp_path, "--backend", backend)
    assert [part.count("main warehouse: asked") for part in output.split("an order of ")[1:]] == [1, 1, 0]
    assert output.count("other warehouse: asked, with reservation ''") == 3
    assert output.count("main warehouse: half of a reservation cancelled") == 2
    assert "OtherWarehouse (fallback): a cup from the other warehouse" in output


@pytest.mark.parametrize("backend", BACKENDS)
def test_trip(backend: str, tmp_path: Path) -> None:
    """All is booked, or all is cancelled, what came first at last."""
    good, bad = run("trip.py", tmp_path, "--backend", backend).split("to Venice:")
    assert "booked: seat 12, a room in Rome, a flight to Rome, a car" in good
    assert sorted(bad.splitlines()[1:3]) == ["  cancelled: a flight to Venice", "  cancelled: a room in Venice"]
    assert bad.splitlines()[3:] == ["  cancelled: seat 12", "  not booked: there are no cars in Venice"]


def test_trip_mermaid(tmp_path: Path) -> None:
    """It prints all three diagrams, and the page about them shows what it prints."""
    output = run("trip_mermaid.py", tmp_path)
    assert re.findall(r"^\w+Diagram|^flowchart", output, re.MULTILINE) == [
        "sequenceDiagram",
        "classDiagram",
        "flowchart",
    ]
    page = (EXAMPLES.parent / "docs" / "diagrams.md").read_text("utf-8")
    shown = re.findall(r"```mermaid\n(.*?)```", page, re.DOTALL)
    assert [diagram in output for diagram in shown] == [True, True]


@pytest.mark.parametrize("backend", BACKENDS)
def test_order_di(backend: str, tmp_path: Path) -> None:
    """Each order has a connection of its own, which is closed after the last act or undo."""
    good, bad = run("order_di.py", tmp_path, "--backend", backend).split("an order of a pot:\n")
    assert good.splitlines()[1:] == [
        "  warehouse: connected",
        "  tea reserved",
        "  warehouse: disconnected",
        "  COMPLETED",
    ]
    assert bad.splitlines() == [
        "  warehouse: connected",
        "  a pot reserved",
        "  a pot back on the shelf",
        "  warehouse: disconnected",
        "  failed: the card has 20 euros",
    ]


@pytest.mark.parametrize("backend", BACKENDS)
def test_mediator(backend: str, tmp_path: Path) -> None:
    """A customer who goes away stops nothing, and what a shutdown stopped is resumed."""
    output = run("mediator.py", tmp_path, "--backend", backend)
    assert output.count("the service starts\n") == 1
    assert output.startswith("the service starts\n")
    assert re.findall(r"seen: (\w+)", output) == ["ReserveItem", "SendItem", "ReserveItem"]
    assert "the order is completed all the same" in output
    assert "(order-3) is not driven to its end here" in output
    assert output.endswith("  a cup sent\n  order-3: COMPLETED, a cup on shelf 4\n")
    assert "undo" not in output


@pytest.mark.parametrize("backend", BACKENDS)
def test_transaction(backend: str, tmp_path: Path) -> None:
    """Who raises or aborts has undone what was done, in reverse; what was left is finished by its id."""
    output = run("transaction.py", tmp_path, "--backend", backend)
    _, watched, failed, aborted, left, finished = re.split(r"^\S.*:\n", output, flags=re.MULTILINE)
    assert re.findall(r"(\w+): ", watched) == ["ReserveItem", "BookCourier", "SendParcel"]
    assert failed.splitlines()[:2] == [
        "  undo: the courier for a pot stays at home",
        "  undo: a pot on shelf 4 is free again",
    ]
    assert failed.endswith("went back, undone: BookCourier, ReserveItem\n")
    assert aborted == "  undo: a cup on shelf 4 is free again\n  COMPENSATED: the cup is broken\n"
    assert left == "  ReserveItem: a spoon on shelf 4\n  RUNNING\n"
    assert finished == "  COMPLETED: a spoon sent\n"


def _sqlalchemy_storage(folder: Path, *arguments: str) -> None:
    output = run("sqlalchemy_storage.py", folder, *arguments)
    assert re.findall(r"act: (\w+)", output) == ["reserve", "charge"]
    assert output.count("  COMPLETED: 30 euros paid, reservation of 2\n") == 2
    assert re.findall(r"\d: (\w+)", output) == [*["STARTED", "DONE"] * 2, "COMPLETED"]


@pytest.mark.parametrize("driver", ["sqlite", "sqlite+aiosqlite"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_sqlalchemy_storage(backend: str, driver: str, tmp_path: Path) -> None:
    """The second start of the service acts no more, and has the stored result."""
    _sqlalchemy_storage(tmp_path, "--backend", backend, "--storage", f"{driver}:///orders.db")
    assert (tmp_path / "orders.db").exists()


def test_sqlalchemy_storage_on_a_server(tmp_path: Path, require_service: Callable[[str], str]) -> None:
    """The same on PostgreSQL."""
    _sqlalchemy_storage(tmp_path, "--storage", require_service("postgres"))


@pytest.mark.parametrize("backend", BACKENDS)
def test_fallback_mediator(backend: str, tmp_path: Path) -> None:
    """The third order does not ask the primary at all."""
    output = run("fallback_mediator.py", tmp_path, "--backend", backend)
    assert [part.count("the warehouse is asked") for part in output.split("order ")[1:]] == [1, 1, 0]
    assert re.findall(r"ReserveAtDepot \(fallback\): (\S+)", output) == ["depot-1", "depot-2", "depot-3"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_mediator_events(backend: str, tmp_path: Path) -> None:
    """What was done is told to handlers and broker, undos too, in the order of each saga; what was not done is not.

    The middleware sees every act and every undo.
    """
    output = run("mediator_events.py", tmp_path, "--backend", backend)
    sent = re.findall(r"broker: (order-\d)/\S+ is (\S+)", output)
    assert [event for saga, event in sent if saga == "order-1"] == ["ItemReserved", "order.paid"]
    assert [event for saga, event in sent if saga == "order-2"] == ["ItemReserved", "ItemReleased"]
    assert output.endswith("reserved in the catalogue: 1 tea, 0 a pot\n")
    assert re.findall(r"order-2: (\w+) of (\w+)", output) == [
        ("act", "ReserveItem"),
        ("act", "ChargeCard"),
        ("undo", "ReserveItem"),
    ]
    assert output.startswith("the service starts\n")


def test_fastapi_sse(tmp_path: Path) -> None:
    """Tea goes through; of a pot everything is undone, and then it is said why."""
    with served_example("fastapi_sse.py", tmp_path) as port:
        tea = [event for _, event in events_from(port, "/orders/1/events?item=tea")]
        pot = [event for _, event in events_from(port, "/orders/2/events?item=a+pot")]
    assert [event["type"] for event in tea] == ["start", "step", "step", "step", "end"]
    assert [event["type"] for event in pot] == ["start", "step", "step", *["compensation"] * 2, "error", "end"]
    assert (tea[-1]["state"], pot[-1]["state"]) == ("COMPLETED", "COMPENSATED")
    assert "the card has too little for a pot" in pot[-2]["error"]


def test_fastapi_sse_stopped_in_the_middle(tmp_path: Path) -> None:
    """A server stops in the middle of an order; who comes back to the next one is told exactly the rest."""
    path = "/orders/1/events?item=tea"
    with served_example("fastapi_sse.py", tmp_path) as port:
        watched = events_from(port, path)
        told = [next(watched), next(watched)]
    watched.close()
    with served_example("fastapi_sse.py", tmp_path, port):
        rest = [event for _, event in events_from(port, path, after=told[-1][0])]
        everything = [event for _, event in events_from(port, path)]
    assert [event.get("step", event["type"]) for event in rest] == ["BookCourier", "ChargeCard", "end"]
    assert [*(event for _, event in told), *rest] == everything
