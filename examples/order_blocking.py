"""An order from a script without an event loop, kept in a SQLite file.

You see an order that is run at once (run_saga), one that is watched step by step (iter_saga), and one whose courier
does not come, so that its payment is paid back. The steps are plain functions.
"""

from pathlib import Path

from attrs import define

from anysaga import NotDone, Saga, Step, iter_saga, run_saga

FILE = Path("orders.db").absolute()


class Bank:
    def __init__(self) -> None:
        self.balance = 100

    def move(self, euros: int) -> int:
        self.balance += euros
        return self.balance


@define
class Order:
    item: str
    price: int
    street: str


class ChargeAccount(Step[Order, int]):
    def __init__(self, bank: Bank) -> None:
        self.bank = bank

    def act(self, order: Order) -> int:
        return self.bank.move(-order.price)

    def compensate(self, order: Order) -> None:
        print(f"  undo: the balance is {self.bank.move(order.price)} again")


class SendCourier(Step[Order, str]):
    def act(self, order: Order) -> str:
        if not order.street:
            raise NotDone("there is no street to go to")
        return f"{order.item} on its way to {order.street}"

    def compensate(self, order: Order) -> None:
        print(f"  undo: courier called back from {order.street}")


class OrderSaga(Saga[Order]):
    steps = (ChargeAccount, SendCourier)


def main() -> None:
    bank = Bank()
    print("at once:")
    result = run_saga(OrderSaga, Order("tea", 8, "Elm Street"), storage=FILE, container={Bank: lambda: bank})
    print(f"  {result.state}: {result[SendCourier].response}")

    print("step by step:")
    for step in iter_saga(OrderSaga, Order("a pot", 20, "Oak Street"), storage=FILE, container={Bank: lambda: bank}):
        print(f"  {step.step_name}: {step.response}")

    print("to nowhere:")
    try:
        run_saga(OrderSaga, Order("a cup", 5, ""), storage=FILE, container={Bank: lambda: bank})
    except NotDone as error:
        print(f"  failed: {error}\n  {error.__notes__[0]}")

    print(f"kept in {FILE}")


if __name__ == "__main__":
    main()
