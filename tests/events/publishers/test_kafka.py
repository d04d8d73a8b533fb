"""What is special to Kafka, by either client."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import anyio
import pytest
from attrs import evolve
from brokers import AioKafka, Kafka, kafka, message
from confluent_kafka import KafkaError

from anysaga import InvalidArgument, PublishFailed
from anysaga.events.publishers import AioKafkaPublisher, KafkaPublisher
from anysaga.events.publishers._kafka import _Batch, _Courier
from anysaga.events.publishers._parcels import Parcel

pytestmark = pytest.mark.anyio

MESSAGES = [message(number) for number in range(5)]


@pytest.fixture(params=[Kafka, AioKafka])
def cluster(request: pytest.FixtureRequest, kafka_port: int) -> Iterator[Kafka]:
    with kafka(request.param, kafka_port) as made:
        yield made


@pytest.fixture
def by_librdkafka(kafka_port: int) -> Iterator[Kafka]:
    with kafka(Kafka, kafka_port) as made:
        yield made


def couriers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "anysaga-kafka"]


async def test_events_of_a_saga_keep_their_order(cluster: Kafka) -> None:
    """They have one key, so they stand in one partition, one behind the other."""
    events = [evolve(MESSAGES[0], id=f"order-0/{step}/act/1") for step in range(10)]
    async with cluster.publisher() as publisher:
        for event in events:
            assert await publisher.publish([event, *MESSAGES[1:]]) == [None] * len(MESSAGES)

    found = [each for each in cluster.raw(len(events) + 4) if each.key() == b"order-0"]
    assert len({each.partition() for each in found}) == 1
    assert [dict(each.headers())["id"].decode() for each in found] == [event.id for event in events]


async def test_a_topic_may_differ_from_message_to_message(cluster: Kafka) -> None:
    """A function of the message says it."""
    other = message(7, type="OrderShipped")
    elsewhere = f"{cluster.place}-{other.type}"

    def topic(each: object) -> str:
        return elsewhere if each is other else cluster.place

    async with cluster.publisher(topic) as publisher:
        assert await publisher.publish([MESSAGES[0], other]) == [None, None]
    assert [each.id for each in cluster.received(1)] == [MESSAGES[0].id]
    cluster.place = elsewhere
    assert [each.id for each in cluster.received(1)] == [other.id]


async def test_servers_may_be_listed(cluster: Kafka) -> None:
    """As in Kafka's own clients, in one text or several; the first that answers is enough."""
    for servers in (f"127.0.0.1:1, {cluster.servers}", ["127.0.0.1:1", cluster.servers]):
        kind = type(cluster.publisher())
        async with kind(servers, cluster.place) as publisher:  # type: ignore[call-arg]
            assert await publisher.publish(MESSAGES) == [None] * len(MESSAGES)


@pytest.mark.parametrize("kind", [KafkaPublisher, AioKafkaPublisher])
@pytest.mark.parametrize("servers", ["", " , ", []])
def test_some_server_is_needed(kind: type[KafkaPublisher], servers: str) -> None:
    with pytest.raises(InvalidArgument, match="name a broker"):
        kind(servers, "orders")


async def test_settings_of_librdkafka_are_handed_on(by_librdkafka: Kafka, tmp_path: Path) -> None:
    """They win over ours: a queue of two messages has no room for five."""
    config = {"queue.buffering.max.messages": 2}
    async with KafkaPublisher(by_librdkafka.servers, by_librdkafka.place, config=config) as publisher:
        answers = await publisher.publish(MESSAGES)
        assert answers[:2] == [None, None]
        assert [type(error) for error in answers[2:]] == [PublishFailed] * 3
        assert "Queue full" in str(answers[4])

        assert await publisher.publish(MESSAGES[:1]) == [None]


async def test_settings_that_cannot_work_are_named_and_not_shown() -> None:
    """They are told when a publisher is opened, without what may be secret."""
    publisher = KafkaPublisher("localhost", "orders", config={"sasl.pasword": "hunter2"})
    with pytest.raises(InvalidArgument, match=r"sasl\.pasword") as caught:
        await publisher.open()
    assert "hunter2" not in str(caught.value)


def test_options_that_aiokafka_does_not_have_are_named_and_not_shown() -> None:
    """As long as they came up with the connection, they were taken for a broker that is away."""
    with pytest.raises(InvalidArgument, match="sasl_plain") as caught:
        AioKafkaPublisher("localhost", "orders", sasl_plain="hunter2")
    assert "hunter2" not in str(caught.value)


async def test_why_a_broker_is_silent_is_told(by_librdkafka: Kafka) -> None:
    """Librdkafka tries until the time is over; the error says what it met."""
    by_librdkafka.proxy.down()
    async with by_librdkafka.publisher(timeout=1.0) as publisher:
        with pytest.raises(PublishFailed, match="Connection refused"):
            await publisher.publish(MESSAGES[:1])


async def test_a_message_that_is_refused_unasked_is_no_word_of_a_broker(by_librdkafka: Kafka) -> None:
    """Beside those that nobody answers for; on its own it has failed, wherever the broker is."""
    by_librdkafka.proxy.down()
    async with by_librdkafka.publisher(timeout=0.7) as publisher:
        with pytest.raises(PublishFailed, match="did not confirm any message"):
            await publisher.publish([by_librdkafka.refused(), *MESSAGES])
        (error,) = await publisher.publish([by_librdkafka.refused()])
    assert "too large" in str(error)


async def test_a_producer_that_is_beyond_help_is_replaced(by_librdkafka: Kafka) -> None:
    """After a fatal error, which an idempotent producer can have, the next publish has a new one."""
    async with by_librdkafka.publisher() as publisher:
        assert await publisher.publish(MESSAGES[:1]) == [None]
        (old,) = couriers()
        assert isinstance(publisher, KafkaPublisher)
        assert publisher._courier is not None
        publisher._courier._on_error(KafkaError(KafkaError._FATAL, "out of order", fatal=True))

        assert await publisher.publish(MESSAGES[1:]) == [None] * 4
        await anyio.to_thread.run_sync(old.join)
        (new,) = couriers()
        assert new is not old
    assert couriers() == []


async def test_closing_answers_who_waits(by_librdkafka: Kafka) -> None:
    """A publish that is under way fails at once."""
    by_librdkafka.proxy.stall()
    publisher = by_librdkafka.publisher()
    answers: list[Exception | None] = []

    async def publish() -> None:
        answers.extend(await publisher.publish(MESSAGES))

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(publish)
            await anyio.wait_all_tasks_blocked()
            await publisher.aclose()
    assert [type(error) for error in answers] == [PublishFailed] * len(MESSAGES)


async def test_a_message_that_nobody_answers_for_has_failed_though_others_arrived(
    by_librdkafka: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    def send(_: object, parcels: Sequence[Parcel], batch: _Batch) -> None:
        batch.say(0, None)

    monkeypatch.setattr(_Courier, "send", send)
    async with KafkaPublisher(by_librdkafka.servers, by_librdkafka.place, timeout=0.01) as publisher:
        first, second = await publisher.publish(MESSAGES[:2])
    assert first is None
    assert isinstance(second, PublishFailed)
    assert second.reason == "no answer within 0.01 seconds"


async def test_it_is_closed_though_its_caller_was_cancelled(by_librdkafka: Kafka) -> None:
    publisher = KafkaPublisher(by_librdkafka.servers, by_librdkafka.place)
    await publisher.open()
    courier = publisher._courier
    assert courier is not None
    with anyio.CancelScope() as scope:
        scope.cancel()
        await publisher.aclose()
    assert not courier._thread.is_alive()


def test_all_in_sync_replicas_confirm_unless_somebody_says_otherwise() -> None:
    kafka = KafkaPublisher("localhost", "orders")._config
    assert (kafka["acks"], kafka["enable.idempotence"]) == ("all", True)
    assert AioKafkaPublisher("localhost", "orders")._options["acks"] == "all"


async def test_a_producer_that_failed_is_replaced(kafka_port: int) -> None:
    """Once aiokafka itself says that a message failed, the next publish has another producer."""
    with kafka(AioKafka, kafka_port) as cluster:
        async with AioKafkaPublisher(cluster.servers, cluster.place, request_timeout_ms=2000) as publisher:
            assert await publisher.publish(MESSAGES) == [None] * len(MESSAGES)
            old = publisher._client
            cluster.proxy.down()
            with pytest.raises(PublishFailed, match="did not confirm any message") as caught:
                await publisher.publish(MESSAGES)
            assert "no answer" not in str(caught.value)

            cluster.proxy.come_back()
            assert await publisher.publish(MESSAGES) == [None] * len(MESSAGES)
            assert publisher._client is not old
