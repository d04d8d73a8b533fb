"""What holds for every publisher, at real brokers."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Coroutine, Sequence
from typing import Any

import anyio
import pytest
from brokers import Broker, as_received, message

from anysaga import InvalidArgument, MissingPackage, PublishFailed
from anysaga.abc import Message, Publisher
from anysaga.events import publishers
from anysaga.events.publishers import DevnullPublisher, KafkaPublisher
from anysaga.events.publishers._hosted import HostedPublisher
from anysaga.events.publishers._parcels import Parcel, Said

pytestmark = pytest.mark.anyio

SHORT = 0.7
"""A time limit that is waited out."""

MESSAGES = [message(number) for number in range(20)]


async def confirmed(publisher: Publisher, messages: Sequence[Message]) -> None:
    """Publish until all is confirmed, as a relay does."""
    with anyio.fail_after(60):
        while messages:
            try:
                answers = await publisher.publish(messages)
            except PublishFailed:
                await anyio.lowlevel.checkpoint()
            else:
                messages = [each for each, error in zip(messages, answers, strict=True) if error]


async def fails(publisher: Publisher, messages: Sequence[Message]) -> PublishFailed:
    """Publish in vain, well in time; give the first error."""
    with anyio.fail_after(30):
        try:
            answers = await publisher.publish(messages)
        except PublishFailed as error:
            return error
    assert all(isinstance(error, PublishFailed) for error in answers)
    assert isinstance(answers[0], PublishFailed)
    return answers[0]


async def test_devnull_confirms_everything() -> None:
    async with DevnullPublisher() as publisher:
        assert await publisher.publish(MESSAGES[:2]) == [None, None]


async def test_what_is_confirmed_is_there(broker: Broker) -> None:
    """A consumer finds each envelope, its key, id, type and media type."""
    async with broker.publisher() as publisher:
        assert await publisher.publish(MESSAGES) == [None] * len(MESSAGES)

    expected = [as_received(each, broker.key(each)) for each in MESSAGES]
    assert broker.received(len(MESSAGES)) == sorted(expected, key=lambda each: each.id)


async def test_nothing_to_publish_is_nothing_to_do(broker: Broker) -> None:
    """An empty batch needs no broker."""
    broker.proxy.down()
    async with broker.publisher() as publisher:
        assert await publisher.publish([]) == []


async def test_a_refused_message_fails_alone(broker: Broker) -> None:
    """The others of its batch are confirmed, and so is what comes later."""
    refused = broker.refused()
    async with broker.publisher() as publisher:
        first, second, third = await publisher.publish([MESSAGES[0], refused, MESSAGES[1]])
        assert (first, third) == (None, None)
        assert isinstance(second, PublishFailed)
        assert second.message_id == refused.id
        assert await publisher.publish(MESSAGES[2:]) == [None] * (len(MESSAGES) - 2)

    assert {each.id for each in broker.received(len(MESSAGES))} == {each.id for each in MESSAGES}


async def test_a_message_that_nobody_answers_for_has_failed_though_others_arrived() -> None:
    """And the client that is silent is not asked again."""
    connections: list[int] = []

    class HalfSilent(HostedPublisher[int]):
        async def _connect(self) -> int:
            connections.append(len(connections))
            return len(connections)

        async def _disconnect(self, client: int) -> None: ...

        def _is_usable(self, client: int) -> bool:
            return True

        def _is_silence(self, error: Exception) -> bool:
            return True

        def _work(self, client: int, parcels: Sequence[Parcel], said: Said) -> list[Coroutine[Any, Any, None]]:
            async def confirm() -> None:
                said[0] = None

            async def say_nothing() -> None:
                await asyncio.Event().wait()

            return [confirm(), say_nothing()]

    publisher = HalfSilent("broker", "orders", timeout=0.01)
    for _ in range(2):
        first, second = await publisher.publish(MESSAGES[:2])
        assert first is None
        assert isinstance(second, PublishFailed)
        assert second.reason == "no answer within 0.01 seconds"
    assert len(connections) == 2


async def test_a_broker_that_is_down_at_first_delays_nobody(broker: Broker) -> None:
    """Opening works; publishing fails with an error of ours, and works as soon as the broker is there."""
    broker.proxy.down()
    async with broker.publisher(timeout=SHORT) as publisher:
        error = await fails(publisher, MESSAGES)
        assert "did not confirm" in str(error)

        broker.proxy.come_back()
        await confirmed(publisher, MESSAGES)
    assert len(broker.received(len(MESSAGES))) == len(MESSAGES)


async def test_a_broker_that_goes_and_comes_back(broker: Broker) -> None:
    """The same publisher works, fails, and works again by itself."""
    async with broker.publisher(timeout=SHORT) as publisher:
        await confirmed(publisher, MESSAGES[:5])
        broker.proxy.down()
        await fails(publisher, MESSAGES[5:])  # which may find the connection gone

        with anyio.fail_after(30), pytest.raises(PublishFailed):  # it raises, so a relay holds nothing against them
            await publisher.publish(MESSAGES[5:])
        broker.proxy.come_back()
        await confirmed(publisher, MESSAGES[5:])
    assert len(broker.received(len(MESSAGES))) == len(MESSAGES)


async def test_lost_connections_are_made_anew(broker: Broker) -> None:
    """A connection that was cut while nothing was sent costs no message."""
    async with broker.publisher() as publisher:
        await confirmed(publisher, MESSAGES[:5])
        broker.proxy.cut()
        await confirmed(publisher, MESSAGES[5:])
    assert len(broker.received(len(MESSAGES))) == len(MESSAGES)


async def test_a_silent_broker_is_not_waited_for(broker: Broker) -> None:
    """A connection that says nothing any more is a failure within the time limit, and can be got over."""
    async with broker.publisher(timeout=SHORT) as publisher:
        await confirmed(publisher, MESSAGES[:5])
        broker.proxy.stall()
        with anyio.fail_after(SHORT + 5):
            await fails(publisher, MESSAGES[5:])

        broker.proxy.come_back()
        await confirmed(publisher, MESSAGES[5:])
    assert len(broker.received(len(MESSAGES))) == len(MESSAGES)


async def test_a_silent_broker_is_away_though_its_connection_lives(broker: Broker) -> None:
    """It raises, so a relay holds nothing against the messages: they may be asked for until the broker is back."""
    async with broker.publisher(timeout=SHORT) as publisher:
        await confirmed(publisher, MESSAGES[:5])
        broker.proxy.stall()
        for _ in range(2):
            with anyio.fail_after(SHORT + 5), pytest.raises(PublishFailed) as caught:
                await publisher.publish(MESSAGES[5:])
            assert "did not confirm any message" in str(caught.value)


async def test_a_cancelled_caller_leaves_at_once_and_the_client_whole(broker: Broker) -> None:
    """A publish is torn out in the middle; the next one works."""
    async with broker.publisher() as publisher:
        await confirmed(publisher, MESSAGES[:5])
        broker.proxy.stall()
        with anyio.fail_after(5), anyio.move_on_after(0.1) as scope:
            await publisher.publish(MESSAGES[5:])
        assert scope.cancelled_caught

        broker.proxy.come_back()
        assert await publisher.publish(MESSAGES[5:]) == [None] * len(MESSAGES[5:])
    assert len(broker.received(len(MESSAGES))) == len(MESSAGES)


async def test_many_batches_at_once(broker: Broker) -> None:
    """Tasks may share a publisher; each gets the answers to its own messages."""
    refused = broker.refused()
    answers: list[tuple[Exception | None, ...]] = []

    async def publish(each: Message) -> None:
        answers.append(tuple(await publisher.publish([each, refused])))

    async with broker.publisher() as publisher, anyio.create_task_group() as group:
        for each in MESSAGES:
            group.start_soon(publish, each)
    assert [(first, type(second)) for first, second in answers] == [(None, PublishFailed)] * len(MESSAGES)


async def test_closing_is_safe_twice_and_not_for_ever(broker: Broker) -> None:
    """A closed publisher refuses, and works again once it is opened."""
    publisher = broker.publisher()
    await publisher.aclose()
    await publisher.open()
    assert await publisher.publish(MESSAGES[:1]) == [None]
    await publisher.aclose()
    await publisher.aclose()
    with pytest.raises(PublishFailed, match="the publisher is closed"):
        await publisher.publish(MESSAGES[:1])
    async with publisher:
        assert await publisher.publish(MESSAGES[:1]) == [None]


async def test_closing_does_not_wait_for_a_silent_broker(broker: Broker) -> None:
    publisher = broker.publisher(timeout=SHORT)
    await confirmed(publisher, MESSAGES[:1])
    broker.proxy.stall()
    with anyio.fail_after(10):
        await publisher.aclose()


def test_one_loop_after_the_other(broker: Broker) -> None:
    """A publisher that was used on asyncio is of use on Trio, and the other way round."""
    publisher = broker.publisher()

    async def publish(messages: Sequence[Message]) -> None:
        assert await publisher.publish(messages) == [None] * len(messages)

    for number, backend in enumerate(["asyncio", "trio", "asyncio"]):
        anyio.run(publish, MESSAGES[number : number + 1], backend=backend)
    assert len(broker.received(3)) == 3
    anyio.run(publisher.aclose)


UNCLOSED = """
import sys
import anyio
from brokers import message
from anysaga.events import publishers

publisher = getattr(publishers, sys.argv[1])(*sys.argv[2:])
assert anyio.run(publisher.publish, [message()]) == [None]
print("done")
"""


def test_an_unclosed_publisher_does_not_hang_the_interpreter(broker: Broker) -> None:
    """It makes no noise of its own either; aiokafka says itself that a producer was not closed."""
    command = [sys.executable, "-c", UNCLOSED, type(broker.publisher()).__name__, *broker.arguments]
    run = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    noise = [line for line in run.stderr.splitlines() if "AIOKafkaProducer" not in line]
    assert (run.stdout, noise) == ("done\n", [])


async def test_an_address_that_cannot_be_told_fails_alone(broker: Broker) -> None:
    """A function of the user's that fails concerns the message that it failed for."""

    def address(each: Message) -> str:
        return {"order-0": broker.address(each)}[each.saga_id]

    publisher = broker.publisher(address)
    async with publisher:
        first, second = await publisher.publish(MESSAGES[:2])
        assert first is None
        assert isinstance(second, PublishFailed)
        assert second.reason == "KeyError: 'order-1'"


@pytest.mark.parametrize(
    ("publisher", "package", "module"),
    [
        ("KafkaPublisher", "confluent-kafka", "confluent_kafka"),
        ("AioKafkaPublisher", "aiokafka", "aiokafka"),
        ("RabbitMQPublisher", "aio-pika", "aio_pika"),
    ],
)
def test_a_missing_package_is_named(publisher: str, package: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install; nothing else of the package needs it."""
    for name in list(sys.modules):
        if name.startswith("anysaga.events.publishers._"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(publishers, publisher, raising=False)
    monkeypatch.setitem(sys.modules, module, None)
    extra = "rabbitmq" if "Rabbit" in publisher else "kafka"
    with pytest.raises(MissingPackage, match=rf"'{package}' is not installed: pip install 'anysaga\[{extra}\]'"):
        getattr(publishers, publisher)


@pytest.mark.parametrize("timeout", [0, -1.0, float("inf"), "soon"])
def test_a_time_limit_must_be_one(timeout: float) -> None:
    with pytest.raises(InvalidArgument, match="seconds"):
        KafkaPublisher("localhost", "orders", timeout=timeout)
