"""Readings by MQTT: acknowledged when durable, delivered again when not, answered where the sender asks."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tellegen.assess.load import Connection
from tellegen.errors import InputError
from tellegen.journal import Journal
from tellegen.metering import DeviceCodes
from tellegen.records import RecordError, Route, Statement
from tellegen.service import mqtt, mqtt_sessions
from tellegen.service.client import post_request
from tellegen.service.counters import Counters
from tellegen.service.mqtt import (
    REPLY_TOPIC,
    ROWS_TYPE,
    Broker,
    Reply,
    _answer,
    _is_taken,
    _reply_topic,
    reach,
    statement_of,
    topic_of,
)
from tellegen.service.mqtt_sessions import identifier_of, receive
from tellegen.simulation.batches import readings_batch, readings_of
from tellegen.simulation.shard import build_shard
from tellegen.units import MARKET_INTERVAL_S
from tellegen.verify.receipts import check_receipt

SIGNATURE = b"s" * 64
ORIGIN = "simulated/tellegen.example/shard"


def submission(sequence: int, body: bytes = b"rows", source: str = "head-end 1") -> tuple[Statement, str, bytes]:
    statement = Statement.of(ORIGIN, Route.READINGS, source, "grid/F+1#é%".replace("é", "e"), "", 7, sequence, body)
    return statement, topic_of(statement), SIGNATURE + body


@given(
    st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=100),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=100),
    st.integers(0, 2**40),
    st.integers(0, 2**63 - 1),
    st.binary(min_size=1, max_size=20),
)
def test_every_submission_has_a_topic_of_its_own(source: str, feeder: str, interval: int, sequence: int, body: bytes):
    statement = Statement.of(ORIGIN, Route.READINGS, source, feeder, "", interval, sequence, body)
    topic = topic_of(statement)
    assert not set(topic) & set("+#")
    assert statement_of(ORIGIN, topic, SIGNATURE + body) == (statement, SIGNATURE, body)


@given(
    st.text(max_size=60)
    | st.from_regex(r"[a-z%0-9]{1,9}/[a-zA-Z%0-9]{1,9}/[0-9]{1,9}/[0-9]{1,9}", fullmatch=True)
    | st.integers(0, 2**40).map(str),
    st.binary(min_size=60, max_size=80),
)
def test_any_message_is_a_submission_or_refused(topic: str, payload: bytes) -> None:
    """And what is read of it is what was sent: signature and body to the byte, under one topic."""
    for at in (topic, f"tellegen/readings/{topic}", f"tellegen/readings/a/b/{topic}/1"):
        try:
            statement, signature, body = statement_of(ORIGIN, at, payload)
        except RecordError:
            continue
        assert signature + body == payload
        assert len(signature) == len(SIGNATURE)
        assert statement_of(ORIGIN, topic_of(statement), payload) == (statement, signature, body)


def test_what_is_no_submission_is_named() -> None:
    _, topic, payload = submission(1)
    for wrong, content, said in (
        ("tellegen/readings/a/b/1", payload, "SOURCE/FEEDER/INTERVAL/SEQUENCE"),
        ("tellegen/readings/a/b/x/1", payload, "numbers from 0"),
        (topic, SIGNATURE, "64 bytes are not a signature and a body"),
    ):
        with pytest.raises(RecordError, match=said):
            statement_of(ORIGIN, wrong, content)


def test_the_intake_answers_only_where_the_source_itself_is_answered() -> None:
    """Else whoever may publish readings could have the intake speak to others, or to itself."""
    counters = Counters()
    own = f"{REPLY_TOPIC}/a/b/1/2"
    for asked, answered in (
        (f"{REPLY_TOPIC}/a/receipts/7", f"{REPLY_TOPIC}/a/receipts/7"),
        (f"{REPLY_TOPIC}/NORTH/b/1/2", own),
        (f"{REPLY_TOPIC}/ab/1", own),
        (f"{REPLY_TOPIC}/a", own),
        (f"{REPLY_TOPIC}/a/#", own),
        (f"{REPLY_TOPIC}/a/\0", own),
        ("tellegen/readings/a/b/1/2", own),
        ("plant/receipts", own),
        ("$SYS/broker", own),
        ("", own),
    ):
        message = SimpleNamespace(topic="tellegen/readings/a/b/1/2", properties=SimpleNamespace(ResponseTopic=asked))
        assert _reply_topic(message, counters) == answered
    assert counters.mqtt_ignored == {"response-topic": 9}
    assert _reply_topic(SimpleNamespace(topic="tellegen/readings/a%2Fb/c/1/2", properties=None), counters) == (
        f"{REPLY_TOPIC}/a%2Fb/c/1/2"
    )
    assert 'tellegen_mqtt_ignored_total{what="response-topic"} 9' in counters.text({}, {})


def test_correlation_data_come_back_and_acknowledgements_keep_their_order() -> None:
    """MQTT 5, with the client replaced: the reply of the second is there first, and waits."""
    pytest.importorskip("aiomqtt", reason="aiomqtt is not installed (extra `meters`)")
    told: list[tuple[object, ...]] = []

    class Client:
        def __init__(self) -> None:
            self._client = SimpleNamespace(ack=lambda mid, qos: told.append(("ack", mid, qos)))

        async def publish(self, topic: str, body: bytes, *, qos: int, properties: object) -> None:
            told.append((topic, body, properties.CorrelationData, properties.ContentType))  # type: ignore[attr-defined]

    async def run() -> None:
        arrived: asyncio.Queue = asyncio.Queue()
        loop = asyncio.get_running_loop()
        finals = [loop.create_future() for _ in range(2)]
        for mid, final in enumerate(finals):
            asked = SimpleNamespace(ResponseTopic=f"{REPLY_TOPIC}/a/{mid}", CorrelationData=bytes((mid,)))
            message = SimpleNamespace(topic="tellegen/readings/a/b/1/2", mid=mid, qos=1, properties=asked)
            await arrived.put((message, final))
        task = asyncio.create_task(_answer(Client(), arrived, Counters()))
        finals[1].set_result(Reply("text/plain", b"second"))
        await asyncio.sleep(0)
        assert told == []
        finals[0].set_result(Reply("text/plain", b"first"))
        while len(told) < 4:
            await asyncio.sleep(0)
        task.cancel()

    asyncio.run(run())
    assert told == [
        (f"{REPLY_TOPIC}/a/0", b"first", b"\x00", "text/plain"),
        ("ack", 0, 1),
        (f"{REPLY_TOPIC}/a/1", b"second", b"\x01", "text/plain"),
        ("ack", 1, 1),
    ]


@dataclass
class Record:
    """An intake that knows each submission once; busy when told to be, or slow with one; may hold its last word."""

    busy: int = 0
    hold: asyncio.Event | None = None
    slow: str = ""
    taken: dict[str, int] = field(default_factory=dict)
    asked: int = 0

    async def take(self, statement: Statement, signature: bytes, body: bytes, content_type: str) -> Reply:
        self.asked += 1
        assert (signature, content_type) == (SIGNATURE, ROWS_TYPE)
        if statement.source == self.slow:
            return Reply("application/problem+json", b"rate", 0.001, is_rate=True)
        if self.busy:
            self.busy -= 1
            return Reply("application/problem+json", b"busy", 0.0)
        if self.hold is not None:
            await self.hold.wait()
        index = self.taken.setdefault(statement.name(), len(self.taken))
        return Reply("text/plain", f"receipt {index}".encode())


@contextlib.asynccontextmanager
async def running_broker() -> AsyncIterator[int]:
    """An in-process broker on a port of the system's choice."""
    amqtt_broker = pytest.importorskip("amqtt.broker", reason="amqtt is not installed")
    logging.getLogger("amqtt").setLevel(logging.CRITICAL)
    logging.getLogger("transitions").setLevel(logging.CRITICAL)
    broker = amqtt_broker.Broker(
        {
            "listeners": {"default": {"type": "tcp", "bind": "127.0.0.1:0"}},
            "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
        }
    )
    await broker.start()
    try:
        yield broker._servers["default"].instance.sockets[0].getsockname()[1]
    finally:
        await broker.shutdown()


@contextlib.asynccontextmanager
async def receiving(
    port: int, record: Record, counters: Counters | None = None, sources: tuple[str, ...] = ("head-end 1",)
) -> AsyncIterator[None]:
    ready = asyncio.Event()
    at = Broker("127.0.0.1", port, version_5=False, in_flight_max=4)  # amqtt speaks 3.1.1

    async def head_ends() -> set[str]:
        return set(sources)

    task = asyncio.create_task(
        receive(at, b"secret", ORIGIN, head_ends, record.take, counters or Counters(), ready.set)
    )
    await asyncio.wait([task, asyncio.create_task(ready.wait())], return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        task.result()
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, InputError):
            await task


def run(scenario) -> None:
    pytest.importorskip("aiomqtt", reason="aiomqtt is not installed (extra `meters`)")
    asyncio.run(asyncio.wait_for(scenario(), 12))


def test_readings_arrive_and_receipts_come_back() -> None:
    """Also those sent twice, those sent while the intake is busy, and what is no submission."""

    async def scenario() -> None:
        import aiomqtt

        record = Record(busy=2)
        async with running_broker() as port, receiving(port, record), aiomqtt.Client("127.0.0.1", port) as sender:
            await sender.subscribe(f"{REPLY_TOPIC}/#", qos=1)
            for sequence in (1, 2, 1):
                _, topic, payload = submission(sequence)
                await sender.publish(topic, payload, qos=1)
            await sender.publish("tellegen/readings/head-end 1/b/1/x", SIGNATURE + b"rows", qos=1)
            replies = []
            async for message in sender.messages:
                replies.append((str(message.topic).rsplit("/", 1)[1], bytes(message.payload)))
                if len(replies) == 4:
                    break
        assert replies[:3] == [("1", b"receipt 0"), ("2", b"receipt 1"), ("1", b"receipt 0")]
        assert b"numbers from 0" in replies[3][1]
        assert (record.taken, record.asked) == ({"readings/1": 0, "readings/2": 1}, 5)

    run(scenario)


def test_one_source_that_is_too_fast_stops_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its messages wait, or are refused for good; the other's are answered."""

    async def scenario() -> None:
        import aiomqtt

        record, sources = Record(slow="EVIL"), ("EVIL", "NORTH")
        async with (
            running_broker() as port,
            receiving(port, record, sources=sources),
            aiomqtt.Client("127.0.0.1", port) as sender,
        ):
            await sender.subscribe(f"{REPLY_TOPIC}/#", qos=1)
            for sequence in range(12):
                _, topic, payload = submission(sequence, source="EVIL")
                await sender.publish(topic, payload, qos=1)
            _, topic, payload = submission(1, source="NORTH")
            await sender.publish(topic, payload, qos=1)
            refused = 0
            async for message in sender.messages:
                if "/NORTH/" in str(message.topic):
                    assert bytes(message.payload) == b"receipt 0"
                    break
            monkeypatch.setattr(mqtt, "RATE_WAIT_S_MAX", 0.0)
            async for message in sender.messages:
                assert "/EVIL/" in str(message.topic)
                assert b"rate" in bytes(message.payload)
                refused += 1
                if refused == 12:
                    break

    run(scenario)


def test_messages_of_one_source_under_way_are_few_and_the_rest_is_refused() -> None:
    """Before MQTT 5 nothing holds a broker back."""

    async def scenario() -> None:
        record = Record(hold=asyncio.Event())
        said = []

        async def broker(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            async for kind, content in packets(reader):
                if kind == CONNECT:
                    writer.write(bytes((CONNACK << 4, 2, 0, 0)))
                elif kind == SUBSCRIBE:
                    writer.write(bytes((SUBACK << 4, 3)) + content[:2] + b"\x01")
                    for mid in range(1, 7):
                        _, topic, payload = submission(mid)
                        sent = len(topic).to_bytes(2, "big") + topic.encode() + mid.to_bytes(2, "big") + payload
                        writer.write(bytes((PUBLISH << 4 | 2, 128 | len(sent) & 127, len(sent) >> 7)) + sent)
                elif kind == PUBLISH:
                    said.append(content)
                    at = 2 + int.from_bytes(content[:2], "big")
                    writer.write(bytes((PUBACK << 4, 2)) + content[at : at + 2])
                    if len(said) == 6:
                        done.set()
            writer.close()

        done = asyncio.Event()
        server = await asyncio.start_server(broker, "127.0.0.1", 0)
        async with server, receiving(server.sockets[0].getsockname()[1], record):
            while record.asked < 4:
                await asyncio.sleep(0.001)
            record.hold.set()
            await done.wait()
        assert record.asked == 4
        assert [b"/problems/rate" in content for content in said] == [False] * 4 + [True] * 2
        digest = hashlib.sha256(b"rows").hexdigest().encode()
        assert all(word in said[5] for word in (b'"source": "head-end 1"', b'"sequence": "6"', b'"readings"', digest))

    run(scenario)


def test_what_was_retained_is_not_taken_and_that_is_counted() -> None:
    async def scenario() -> None:
        import aiomqtt

        record, counters = Record(), Counters()
        async with running_broker() as port, aiomqtt.Client("127.0.0.1", port) as sender:
            await sender.subscribe(f"{REPLY_TOPIC}/#", qos=1)
            for sequence in range(3):
                _, topic, payload = submission(sequence)
                await sender.publish(topic, payload, qos=1, retain=True)
            async with receiving(port, record, counters):
                _, topic, payload = submission(9)
                await sender.publish(topic, payload, qos=1)
                async for message in sender.messages:
                    assert str(message.topic).endswith("/9")
                    break
                while counters.mqtt_ignored["retained"] < 3:
                    await asyncio.sleep(0.001)
        assert record.taken == {"readings/9": 0}
        assert counters.mqtt_ignored == {"retained": 3}

    run(scenario)


@pytest.mark.parametrize(
    ("retain", "qos", "why"), [(False, 1, None), (True, 1, "retained"), (False, 0, "qos-0"), (True, 0, "retained")]
)
def test_what_no_broker_holds_back_is_not_taken(retain: bool, qos: int, why: str | None) -> None:
    assert mqtt.why_ignored(SimpleNamespace(retain=retain, qos=qos)) == why


def test_another_client_of_the_same_name_is_told_and_does_not_stop_the_intake(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever comes under the name throws the session out, each time; the intake goes on under another name."""
    monkeypatch.setattr(mqtt_sessions, "RETRY_S", 0.0)

    async def scenario() -> None:
        record, counters, names = Record(), Counters(), []
        _, topic, payload = submission(1)
        done = asyncio.Event()

        async def broker(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            async for kind, content in packets(reader):
                if kind == CONNECT:
                    writer.write(bytes((CONNACK << 4, 2, 0, 0)))
                    size = int.from_bytes(content[10:12], "big")
                    name = content[12 : 12 + size].decode()
                elif kind == SUBSCRIBE:
                    names.append(name)
                    writer.write(bytes((SUBACK << 4, 3)) + content[:2] + b"\x01")
                    if name == identifier_of(b"secret", "head-end 1"):
                        break  # somebody else has come under it
                    sent = len(topic).to_bytes(2, "big") + topic.encode() + b"\x00\x07" + payload
                    writer.write(bytes((PUBLISH << 4 | 2, 128 | len(sent) & 127, len(sent) >> 7)) + sent)
                elif kind == PUBLISH:
                    done.set()
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(broker, "127.0.0.1", 0)
        async with server, receiving(server.sockets[0].getsockname()[1], record, counters):
            await done.wait()
        first, second = (identifier_of(b"secret", "head-end 1", taken) for taken in (0, 1))
        assert names == [first] * mqtt_sessions.SHORT_MAX + [second]
        assert counters.mqtt_taken == 1

    run(scenario)
    assert "another client at the MQTT broker" in caplog.text


def test_a_broker_that_says_who_has_come_is_believed_at_once() -> None:
    """MQTT 5, reason code 142."""
    aiomqtt = pytest.importorskip("aiomqtt", reason="aiomqtt is not installed (extra `meters`)")
    for code, taken in ((142, True), (139, False)):
        cause = aiomqtt.MqttCodeError(SimpleNamespace(value=code), "Unexpected disconnection")
        lost = aiomqtt.MqttError("Disconnected during message iteration")
        lost.__cause__ = cause
        assert _is_taken(lost) is taken


@given(st.binary(min_size=32, max_size=32), st.text(max_size=40), st.integers(0, 9))
def test_an_identifier_follows_from_a_secret_and_is_one_for_every_broker(
    secret: bytes, source: str, taken: int
) -> None:
    identifier = identifier_of(secret, source, taken)
    assert len(identifier) == 23
    assert identifier.isascii()
    assert identifier.isalnum()
    others = {identifier_of(secret, source, taken + 1), identifier_of(bytes(32), source + "x", taken)}
    assert identifier not in others
    assert identifier == identifier_of(secret, source, taken)


CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK = 1, 2, 3, 4, 8, 9


async def packets(reader: asyncio.StreamReader) -> AsyncIterator[tuple[int, bytes]]:
    """MQTT 3.1.1 control packets: type, and what follows the length."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            (kind,) = await reader.readexactly(1)
            size, shift, more = 0, 0, True
            while more:
                (byte,) = await reader.readexactly(1)
                size, shift, more = size | (byte & 127) << shift, shift + 7, byte > 127
            yield kind >> 4, await reader.readexactly(size)


def test_nothing_is_acknowledged_before_it_is_durable() -> None:
    """A scripted broker sends one message twice, as after a crash, and writes down what comes back, and when."""
    told: list[object] = []
    record = Record(hold=asyncio.Event())
    _, topic, payload = submission(5)
    told_all = asyncio.Event()

    async def broker(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async for kind, content in packets(reader):
            if kind == CONNECT:
                writer.write(bytes((CONNACK << 4, 2, 0, 0)))
            elif kind == SUBSCRIBE:
                writer.write(bytes((SUBACK << 4, 3)) + content[:2] + b"\x01")
                for mid, header in ((9, PUBLISH << 4 | 2), (10, PUBLISH << 4 | 10)):  # the second marked as repeated
                    sent = len(topic).to_bytes(2, "big") + topic.encode() + mid.to_bytes(2, "big") + payload
                    writer.write(bytes((header, 128 | len(sent) & 127, len(sent) >> 7)) + sent)
            elif kind == PUBLISH:
                told.append("receipt 0" if content.endswith(b"receipt 0") else content)
                at = 2 + int.from_bytes(content[:2], "big")
                writer.write(bytes((PUBACK << 4, 2)) + content[at : at + 2])
            elif kind == PUBACK:
                told.append(int.from_bytes(content[:2], "big"))
                if told[-1] == 10:
                    told_all.set()
        writer.close()

    async def scenario() -> None:
        server = await asyncio.start_server(broker, "127.0.0.1", 0)
        async with server, receiving(server.sockets[0].getsockname()[1], record):
            while record.asked < 2:
                await asyncio.sleep(0.001)
            for _ in range(50):
                await asyncio.sleep(0)
            told.append("durable")
            record.hold.set()
            await told_all.wait()

    run(scenario)
    assert told == ["durable", "receipt 0", 9, "receipt 0", 10]
    assert record.taken == {"readings/5": 0}


def test_a_broker_that_is_not_there_is_one_line() -> None:
    async def scenario() -> None:
        with pytest.raises(InputError, match=r"MQTT broker 127\.0\.0\.1:1: the connection failed"):
            await reach(Broker("127.0.0.1", 1))

    run(scenario)
    assert "secret" not in repr(Broker("h", password="secret"))


def test_readings_by_mqtt_and_by_http_are_one_record(tmp_path: Path) -> None:
    """The real server: receipts come back on the reply topic, and the same batch over HTTP is the same entry."""
    pytest.importorskip("uvicorn", reason="uvicorn is not installed (extra `service`)")
    interval = int(time.time()) // MARKET_INTERVAL_S - 1
    customers = np.arange(1, 4, dtype=np.int32)
    keys = build_shard(tmp_path / "s", {"F 1/a": customers}, b"mqtt", first_interval=interval - 9)
    codes = DeviceCodes(keys.meter_master, keys.meters_of(customers))
    good, wrong = (
        readings_batch(keys, readings_of(keys, codes, customers, interval, n), "F 1/a", interval, n) for n in (1, 2)
    )

    async def scenario() -> None:
        import aiomqtt

        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2] / "src")}
        async with running_broker() as port:
            url = f"mqtt://127.0.0.1:{port}?version=3.1.1"
            server = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", "from tellegen.cli import main; main()", "serve", keys.path),
                *("--simulation", "--mqtt", url),
                stdout=subprocess.PIPE,
                env=environment,
            )
            assert server.stdout is not None
            address = (await server.stdout.readline()).decode().split()[-1]
            async with aiomqtt.Client("127.0.0.1", port) as sender:
                await sender.subscribe(f"{REPLY_TOPIC}/#", qos=1)
                await sender.publish(topic_of(good.statement), good.signature + good.body, qos=1)
                await sender.publish(topic_of(wrong.statement), bytes(64) + wrong.body, qos=1)
                replies = []
                async for message in sender.messages:
                    replies.append(json.loads(bytes(message.payload)))
                    if len(replies) == 2:
                        break
            assert replies[1]["type"] == "/problems/bad-signature"
            for said, batch in zip(replies, (good, wrong), strict=True):
                about = batch.statement
                assert (said["route"], said["source"], said["sequence"]) == ("readings", "head-end", about.sequence)
                assert said["body_sha256"] == about.body_sha256
            async with await Connection.open(address) as connection:
                again = json.loads((await connection.send(post_request(good))).body)
            server.terminate()
            assert await server.wait() == 0
        assert (replies[0]["accepted"], again["again"], again["entries"]) == (3, True, replies[0]["entries"])
        with Journal.open(keys.path) as journal:
            entry = journal.entry(again["entries"][0]).to_bytes()
        assert check_receipt(replies[0]["receipts"][0], entry, keys.vkey).index == again["entries"][0]

    run(scenario)


@pytest.mark.parametrize(
    "url", ["http://h", "mqtt://", "mqtt://u:secret@h", "mqtt://h:x", "mqtt://h/topic", "mqtt://h?v=1"]
)
def test_an_address_of_no_broker_is_one_line(url: str) -> None:
    with pytest.raises(InputError, match="must be mqtt://") as refused:
        Broker.of(url)
    assert "secret" not in str(refused.value)
