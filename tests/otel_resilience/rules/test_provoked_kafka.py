"""kafka-python and confluent-kafka: closed ports, silent ones, and the mock broker that librdkafka carries."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from typing import Any

import confluent_kafka
import pytest

from support.error_rows import ErrorRow, check_row, closed_port, raised, rows_of, silent_port

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of how it reads its own files
    import kafka
    import kafka.errors

QUIET = {"log_level": 0, "message.timeout.ms": 300, "socket.timeout.ms": 300}


@pytest.fixture(scope="module")
def broker() -> Iterator[tuple[confluent_kafka.Producer, str]]:
    """A producer whose broker is the mock, and its address."""
    producer = confluent_kafka.Producer({"test.mock.num.brokers": 1, "log_level": 0, "bootstrap.servers": "mock"})
    described = producer.list_topics(timeout=30)
    address = next(iter(described.brokers.values()))
    yield producer, f"{address.host}:{address.port}"
    del producer


def delivered(producer: confluent_kafka.Producer, topic: str, **options: Any) -> Exception:
    """What the report on a message that did not arrive says, raised as programs do."""
    reports: list[Any] = []
    producer.produce(topic, b"1", on_delivery=lambda error, message: reports.append(error), **options)
    while not reports:
        producer.poll(1)
    return confluent_kafka.KafkaException(reports[0])


def by_confluent(row: ErrorRow, broker: tuple[confluent_kafka.Producer, str]) -> Exception:
    if row.error in ("no broker in time", "no answer in time"):
        with closed_port() if row.error == "no broker in time" else silent_port() as port:
            producer = confluent_kafka.Producer({"bootstrap.servers": f"127.0.0.1:{port}", **QUIET})
            return raised(lambda: producer.list_topics(timeout=0.3))
    if row.error == "message not delivered in time":
        with closed_port() as port:
            return delivered(confluent_kafka.Producer({"bootstrap.servers": f"127.0.0.1:{port}", **QUIET}), "orders")
    if row.error == "unknown partition":
        broker[0].list_topics("orders", timeout=30)
        return raised(lambda: broker[0].produce("orders", b"1", partition=99))
    if row.error == "message is too large":
        return raised(lambda: broker[0].produce("orders", b"x" * 2_000_000))
    if row.error == "queue of the producer is full":
        with closed_port() as port:
            small = {"bootstrap.servers": f"127.0.0.1:{port}", "queue.buffering.max.messages": 1, **QUIET}
            producer = confluent_kafka.Producer(small)

            def produce() -> None:
                for _ in range(5):
                    producer.produce("orders", b"1")

            try:
                produce()
            except BufferError as error:
                return error
    if row.error == "wrong configuration":
        return raised(lambda: confluent_kafka.Producer({"no.such.setting": 1}))
    consumer = confluent_kafka.Consumer({"bootstrap.servers": broker[1], "group.id": "shop", "log_level": 0})
    try:
        return raised(
            lambda: consumer.commit(offsets=[confluent_kafka.TopicPartition("orders", 0, -1001)], asynchronous=False)
        )
    finally:
        consumer.close()


@pytest.mark.fault("L6")
@pytest.mark.parametrize("row", rows_of("confluent-kafka"))
def test_confluent_kafka(row: ErrorRow, broker: tuple[confluent_kafka.Producer, str]) -> None:
    check_row(row, by_confluent(row, broker))


@pytest.mark.parametrize("row", rows_of("Kafka's codes"))
def test_codes_of_the_protocol(row: ErrorRow) -> None:
    """As both clients make them of an answer."""
    number = int(row.error.split(" ")[0])
    check_row(row, confluent_kafka.KafkaException(confluent_kafka.KafkaError(number)))
    of_python = kafka.errors.for_code(number)("said the broker")
    check_row(ErrorRow(row.client, row.error, type(of_python).__name__, row.cells), of_python)


def by_python(row: ErrorRow, broker: tuple[confluent_kafka.Producer, str]) -> Exception:
    if row.error in ("no broker in time", "no answer in time"):
        with closed_port() if row.error == "no broker in time" else silent_port() as port:
            return raised(
                lambda: kafka.KafkaProducer(
                    bootstrap_servers=f"127.0.0.1:{port}", bootstrap_timeout_ms=300, request_timeout_ms=300
                )
            )
    producer = kafka.KafkaProducer(bootstrap_servers=broker[1], max_block_ms=2_000, api_version=(2, 0, 0))
    try:
        return raised(lambda: producer.send("orders", b"x" * 2_000_000).get(5))
    finally:
        producer.close(timeout=0)


@pytest.fixture
def sockets_left_open() -> Iterator[None]:
    """kafka-python leaves those of a producer that did not come about to the garbage collector."""
    yield
    gc.collect()


@pytest.mark.fault("L6")
@pytest.mark.usefixtures("sockets_left_open")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("row", rows_of("kafka-python"))
def test_kafka_python(row: ErrorRow, broker: tuple[confluent_kafka.Producer, str]) -> None:
    check_row(row, by_python(row, broker))
