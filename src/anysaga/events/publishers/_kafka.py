"""Kafka, by the package confluent-kafka."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import anyio

from anysaga._crossing_threads import Waker, in_thread
from anysaga._errors import InvalidArgument, MissingPackage, PublishFailed
from anysaga.abc import Message, Publisher
from anysaga.events.publishers._kafka_records import headers, key, label, servers
from anysaga.events.publishers._parcels import Answers, Parcel, Said, caused, checked_seconds, no_answer, packed, reason

try:
    from confluent_kafka import KafkaError, KafkaException, Producer
except ImportError as error:
    raise MissingPackage("confluent-kafka", "kafka") from error

_log = logging.getLogger("anysaga.events")

_WAIT = 0.1
"""Seconds that the thread waits for brokers at a time."""

_IDLE = 1.0
"""Seconds after which the thread looks for news although nothing was sent."""


class KafkaPublisher(Publisher):
    """Publishes to Kafka by confluent-kafka, whose threads do the work: it needs no event loop of its own.

    `topic` is one topic, or a function of the `Message`. The key is the saga's id. The producer is idempotent, and all
    in-sync replicas confirm. Each publish ends within `timeout` seconds. `config` is that of librdkafka
    (``{"security.protocol": "SASL_SSL", ...}``), and wins over these settings.

        KafkaPublisher("broker:9092", "orders")

    Works on asyncio and Trio. Raises `InvalidArgument` for options that cannot work, here or when it is opened, and
    `MissingPackage`, when it is imported, without the package confluent-kafka.
    """

    def __init__(
        self,
        bootstrap_servers: str | Iterable[str],
        topic: str | Callable[[Message], str],
        *,
        timeout: float = 15.0,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        brokers = servers(bootstrap_servers)
        self._broker = label(brokers)
        self._topic = topic
        self._timeout = checked_seconds(timeout)
        self._config: dict[str, Any] = {
            "bootstrap.servers": ",".join(brokers),
            "client.id": "anysaga",
            "enable.idempotence": True,
            "acks": "all",
            "message.timeout.ms": max(1, round(timeout * 1000)),
            "reconnect.backoff.max.ms": 1000,
        } | dict(config or {})
        self._courier: _Courier | None = None
        self._is_closed = False

    async def open(self) -> None:
        """Make the producer. It connects by itself, so a broker that is down delays nobody."""
        self._is_closed = False
        self._working_courier()

    async def publish(self, messages: Sequence[Message], /) -> Answers:
        """See `Publisher.publish`. Raises `PublishFailed` if no broker was heard, and after `aclose`."""
        courier = self._working_courier()
        parcels, answers = packed(messages, self._topic, self._broker)
        if not parcels:
            return answers
        batch = _Batch(len(parcels))
        courier.send(parcels, batch)
        with anyio.move_on_after(self._timeout):
            await batch.complete.wait()
        courier.heed(batch)
        if batch.is_unheard:
            raise PublishFailed(self._broker, "", no_answer(self._timeout) + courier.trouble)
        for place, parcel in enumerate(parcels):
            if place not in batch.said:
                answers[parcel.index] = self._failed(parcel, no_answer(self._timeout) + courier.trouble, None)
            elif error := batch.said[place]:
                answers[parcel.index] = self._failed(parcel, _why(error, courier.trouble), error)
        return answers

    async def aclose(self) -> None:
        """End the producer. What is under way then fails. Safe to call twice."""
        self._is_closed = True
        courier, self._courier = self._courier, None
        if courier is not None:
            with anyio.CancelScope(shield=True):
                await in_thread(courier.stop, limiter=anyio.CapacityLimiter(1))

    def _failed(self, parcel: Parcel, reason: str, cause: Exception | None) -> PublishFailed:
        return caused(PublishFailed(self._broker, parcel.message.id, reason), cause)

    def _working_courier(self) -> _Courier:
        if self._is_closed:
            raise PublishFailed(self._broker, "", "the publisher is closed")
        if self._courier is not None and self._courier.is_broken:
            self._courier.let_go()
            self._courier = None
        if self._courier is None:
            self._courier = _Courier(self._config)
        return self._courier


class _Batch:
    """What brokers said of the messages of a batch, by their places in it. Any thread may add to it."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._is_heard = False
        self.said: Said = {}
        self.complete = Waker()

    def say(self, place: int, error: KafkaError | None, _message: object = None) -> None:
        """Note the end of a message. The signature is that of a delivery callback, which has to be quick."""
        self._is_heard = self._is_heard or error is None or error.code() >= 0  # codes of librdkafka's own are negative
        self.settle(place, None if error is None else KafkaException(error))

    def settle(self, place: int, error: Exception | None) -> None:
        """The same without a word of a broker."""
        self.said[place] = error
        if len(self.said) == self._size:
            self.complete.wake()

    @property
    def is_unheard(self) -> bool:
        """Whether no broker said anything of any message, though some were for them.

        One that says nothing any more need not be known to be down: its connection may last for minutes.
        """
        said = [*self.said.values()]
        return not self._is_heard and (len(said) < self._size or any(map(_is_late, said)))


class _Courier:
    """A producer, and the thread that waits for what brokers say of its messages."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        try:
            self._producer = Producer({"logger": _log, "error_cb": self._on_error, **config})
        except (KafkaException, TypeError, ValueError) as error:
            raise InvalidArgument("config", sorted(config), reason(error)) from error
        self.is_broken = False
        self.trouble = ""
        self._news = threading.Event()
        self._is_ending = False
        self._thread = threading.Thread(target=self._run, name="anysaga-kafka", daemon=True)
        self._thread.start()

    def send(self, parcels: Sequence[Parcel], batch: _Batch) -> None:
        """Queue messages, without waiting; what becomes of them is said to the batch."""
        for place, parcel in enumerate(parcels):
            try:
                self._producer.produce(
                    parcel.address,
                    parcel.body,
                    key(parcel.message),
                    headers=[*headers(parcel.message)],
                    on_delivery=partial(batch.say, place),
                )
            except Exception as error:  # noqa: BLE001 - too large, no topic, a full queue: all of this message alone
                batch.settle(place, error)
        self._news.set()

    def heed(self, batch: _Batch) -> None:
        """Learn about this producer from what was said of a batch."""
        said = [*batch.said.values()]  # at once: the thread may have more to say
        errors = [error for error in said if error]
        if said and not errors:
            self.trouble = ""
        self.is_broken = self.is_broken or any(_is_fatal(error) for error in errors)

    def let_go(self) -> None:
        """Have the thread end soon."""
        self._is_ending = True
        self._news.set()

    def stop(self) -> None:
        """End the thread, and the producer. Blocks for a moment."""
        self.let_go()
        self._thread.join()
        del self._producer  # here and not in the caller's loop: it closes connections

    def _run(self) -> None:
        producer = self._producer
        while not self._is_ending:
            self._news.wait(_IDLE)
            self._news.clear()
            producer.poll(0)
            while len(producer) and not self._is_ending:
                producer.flush(_WAIT)  # unlike `poll`, it does not let messages linger
        producer.purge()
        producer.flush(_WAIT)

    def _on_error(self, error: KafkaError) -> None:
        _log.warning("Kafka: %s", error.str())
        if error.code() != KafkaError._ALL_BROKERS_DOWN:  # which follows the error that says why
            self.trouble = f" ({error.str()})"
        self.is_broken = self.is_broken or _is_fatal(KafkaException(error))


def _is_fatal(error: Exception) -> bool:
    said = error.args[0] if isinstance(error, KafkaException) else None
    return isinstance(said, KafkaError) and (said.fatal() or said.code() == KafkaError._FATAL)


def _is_late(error: Exception | None) -> bool:
    """Whether a message waited for a broker until its time was over."""
    said = error.args[0] if isinstance(error, KafkaException) else None
    return isinstance(said, KafkaError) and said.code() == KafkaError._MSG_TIMED_OUT


def _why(error: Exception, trouble: str) -> str:
    if not isinstance(error, KafkaException):
        return reason(error)
    said: KafkaError = error.args[0]
    return said.str() + (trouble if said.code() == KafkaError._MSG_TIMED_OUT else "")
