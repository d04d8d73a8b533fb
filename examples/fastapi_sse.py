"""An order in a browser: its steps appear on the page as they are done, and as they are undone.

Run it, open the address that it prints, and order something: tea goes through; of a pot everything is undone, since the
card is empty. Close the page in the middle and the order goes on; open the same address again, and it tells the rest.
Stop the server in the middle, start it again on the same port, and the page comes back to it, and so does the order.

Needs uvicorn: `pip install 'anysaga[fastapi,sql]' uvicorn`.
"""

import socket
from argparse import ArgumentParser

import anyio
import uvicorn
from attrs import define
from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse

from anysaga import Saga, SagaMap, SagaMediator, SQLAlchemyStorage, Step
from anysaga.integrations import MediatorDep, mediator_lifespan, saga_events

PACE = 0.3
PAGE = """<!doctype html>
<meta charset="utf-8">
<title>An order, live</title>
<style>
  body { font: 1.1rem sans-serif; margin: 3rem }
  .undone { text-decoration: line-through }
</style>
<h1>An order, live</h1>
<form><button name="item" value="tea">Order tea</button> <button name="item" value="a pot">Order a pot</button></form>
<ol id="steps"></ol>
<p id="error"></p>
<p id="state"></p>
<script>
  const item = new URLSearchParams(location.search).get("item");
  if (item) {
    location.hash ||= crypto.randomUUID(); // the order's id: a page that is opened again tells the same order
    const source = new EventSource(`/orders/${location.hash.slice(1)}/events?${new URLSearchParams({ item })}`);
    source.onmessage = (message) => {
      const event = JSON.parse(message.data);
      if (event.type === "step") {
        const line = document.createElement("li");
        line.id = event.step;
        line.textContent = `${event.step}: ${event.response}`;
        document.getElementById("steps").append(line);
      } else if (event.type === "compensation") {
        document.getElementById(event.step).className = "undone";
      } else if (event.type === "error") {
        document.getElementById("error").textContent = event.error;
      } else if (event.type === "end") {
        document.getElementById("state").textContent = event.state;
        source.close();
      }
    };
  }
</script>
"""


class CardEmpty(Exception): ...


@define
class Order:
    item: str


class ReserveItem(Step[Order, str]):
    async def act(self, order: Order) -> str:
        await anyio.sleep(PACE)
        return f"{order.item} on shelf 4"

    async def compensate(self, order: Order) -> None:
        await anyio.sleep(PACE)


class BookCourier(Step[Order, str]):
    async def act(self, order: Order) -> str:
        await anyio.sleep(PACE)
        return "tomorrow at 9"

    async def compensate(self, order: Order) -> None:
        await anyio.sleep(PACE)


class ChargeCard(Step[Order, str]):
    not_done_on = (CardEmpty,)

    async def act(self, order: Order) -> str:
        await anyio.sleep(PACE)
        if order.item != "tea":
            raise CardEmpty(f"the card has too little for {order.item}")
        return "8 euros paid"

    async def compensate(self, order: Order) -> None:
        await anyio.sleep(PACE)


class OrderSaga(Saga[Order]):
    steps = (ReserveItem, BookCourier, ChargeCard)


sagas = SagaMap()
sagas.bind(Order, OrderSaga)
app = FastAPI(lifespan=mediator_lifespan(SagaMediator(sagas, storage=SQLAlchemyStorage("orders.db"))))


@app.get("/")
async def page() -> HTMLResponse:
    return HTMLResponse(PAGE)


@app.get("/orders/{order_id}/events")
async def watch(order_id: str, item: str, mediator: MediatorDep, request: Request) -> Response:
    return await saga_events(mediator, Order(item), saga_id=order_id, request=request, poll=0.1)


def main(port: int) -> None:
    listening = socket.create_server(("127.0.0.1", port))
    print(f"open http://127.0.0.1:{listening.getsockname()[1]}/", flush=True)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
    server.run(sockets=[listening])


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8000)
    main(parser.parse_args().port)
