"""Readings by MQTT: a subscriber that hands submissions to the intake and publishes what it says.

A head-end publishes, with QoS 1, to ``tellegen/readings/SOURCE/FEEDER/INTERVAL/SEQUENCE`` a payload of 64 bytes of
Ed25519 signature and then the body; the signature is that of the `records.Statement` which topic and body make. In
names, what MQTT gives a meaning (``/``, ``+``, ``#``) and ``%`` are percent-encoded. The reply, a receipt or a
problem, goes to the MQTT 5 response topic with its correlation data, else to ``tellegen/replies/`` and the same four
levels. The content type of MQTT 5 tells the form of the body; without it the body is canonical rows.

A message is acknowledged to the broker only when the intake has said the last word: durable, or refused for good. So
a crash on either side makes the broker deliver again, and a submission that is on record already gets the same receipt
again. While the intake is busy nothing is acknowledged, and the broker may send only `in_flight_max` messages ahead
(MQTT 5 receive maximum; before MQTT 5, what the broker is set to). Acknowledgements keep the order of arrival, as the
standard demands.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote, unquote, urlsplit

from tellegen.errors import InputError
from tellegen.records import RecordError, Route, Statement

TOPIC = "tellegen/readings"
REPLY_TOPIC = "tellegen/replies"
ROWS_TYPE = "application/vnd.tellegen.rows"
PROBLEM_TYPE = "application/problem+json"
SIGNATURE_BYTES = 64
PAYLOAD_BYTES_MAX = 4 * 2**20
_LEVEL_CHARACTERS_MAX = 300
_NUMBER_DIGITS_MAX = 19
_SESSION_EXPIRY_S = 24 * 3600


@dataclass(frozen=True, slots=True)
class Reply:
    """What the intake says of a submission.

    Attributes
    ----------
    content_type, body : the receipt or the problem.
    retry_after_s : it is too busy to say anything final; to be asked again then. None: this is final.
    """

    content_type: str
    body: bytes
    retry_after_s: float | None = None


class Take(Protocol):
    """The intake, as a transport sees it; a final reply is given once the record is durable."""

    def __call__(self, statement: Statement, signature: bytes, body: bytes, content_type: str) -> Awaitable[Reply]:
        """Take a submission."""
        ...


@dataclass(frozen=True, slots=True)
class Broker:
    """Where readings come from.

    Attributes
    ----------
    host, port : of the broker.
    identifier : of this subscriber; the broker keeps its session, and what was not acknowledged, under it.
    version_5 : MQTT 5; else 3.1.1, which knows neither response topics nor a receive maximum.
    in_flight_max : messages that are handed to the intake at a time.
    username, password : as the broker demands.
    tls : connect with TLS, the broker's certificate checked against the system's authorities.
    """

    host: str
    port: int = 1883
    identifier: str = "tellegen-intake"
    version_5: bool = True
    in_flight_max: int = 64
    username: str | None = None
    password: str | None = None
    tls: bool = False

    @classmethod
    def of(cls, url: str, password: str | None = None) -> Broker:
        """From ``mqtt://[user@]host[:port]``, or ``mqtts`` for TLS; ``?version=3.1.1`` for a broker before MQTT 5.

        Raises
        ------
        InputError : it is none of that.

        >>> Broker.of("mqtts://intake@broker.example")
        Broker(broker.example:8883)
        """
        try:
            parts = urlsplit(url)
            port, tls = parts.port, parts.scheme == "mqtts"
            good = parts.scheme in ("mqtt", "mqtts") and bool(parts.hostname) and parts.path in ("", "/")
        except ValueError:
            good = False
        if not good or parts.password is not None or parts.query not in ("", "version=3.1.1", "version=5"):
            raise InputError(
                "MQTT broker",
                "address",
                "must be mqtt://[user@]host[:port][?version=3.1.1], or mqtts; no password in it",
            )
        return cls(
            parts.hostname or "",
            port or (8883 if tls else 1883),
            version_5=parts.query != "version=3.1.1",
            username=None if parts.username is None else unquote(parts.username),
            password=password,
            tls=tls,
        )

    def __repr__(self) -> str:
        return f"Broker({self.host}:{self.port})"


def topic_of(statement: Statement, root: str = TOPIC) -> str:
    """Where a submission, or with `REPLY_TOPIC` its reply, is published.

    >>> topic_of(Statement.of("city.example/1", Route.READINGS, "head-end 1", "grid/F1", "", 7, 1, b""))
    'tellegen/readings/head-end 1/grid%2FF1/7/1'
    """
    levels = (statement.source, statement.feeder, str(statement.interval), str(statement.sequence))
    return "/".join((root, *(quote(level, safe=" !$&'()*,:;=@") for level in levels)))


def statement_of(origin: str, topic: str, payload: bytes) -> tuple[Statement, bytes, bytes]:
    """Statement, signature and body of a message to the shard `origin`.

    Raises
    ------
    RecordError : topic or payload are not those of a submission.
    """
    levels = topic.removeprefix(f"{TOPIC}/").split("/")
    if not topic.startswith(f"{TOPIC}/") or len(levels) != 4 or max(map(len, levels)) > _LEVEL_CHARACTERS_MAX:
        raise RecordError(f"the topic is not {TOPIC}/SOURCE/FEEDER/INTERVAL/SEQUENCE")
    if not SIGNATURE_BYTES < len(payload) <= PAYLOAD_BYTES_MAX:
        raise RecordError(f"{len(payload)} bytes are not a signature and a body; {PAYLOAD_BYTES_MAX} are read")
    source, feeder = unquote(levels[0]), unquote(levels[1])
    if any(not (n.isascii() and n.isdigit() and len(n) <= _NUMBER_DIGITS_MAX) for n in levels[2:]):
        raise RecordError("interval and sequence in the topic are numbers from 0")
    body = payload[SIGNATURE_BYTES:]
    statement = Statement.of(origin, Route.READINGS, source, feeder, "", int(levels[2]), int(levels[3]), body)
    return statement, payload[:SIGNATURE_BYTES], body


async def subscribe(broker: Broker, origin: str, take: Take, ready: Callable[[], None] = lambda: None) -> None:
    """Receive readings until cancelled, or the connection fails.

    Parameters
    ----------
    broker : where they come from.
    origin : name of the shard that they are for.
    take : the intake.
    ready : called once subscribed.

    Raises
    ------
    InputError : the extra ``meters`` is not installed, or the broker cannot be reached, or has left. Whoever calls
        again loses nothing: the broker delivers again what was not acknowledged.
    """
    aiomqtt = _library()
    client = _client(aiomqtt, broker)
    lost: BaseExceptionGroup[Exception] | None = None
    try:
        async with client, asyncio.TaskGroup() as tasks:
            await client.subscribe(f"{TOPIC}/+/+/+/+", qos=1)
            ready()
            arrived: asyncio.Queue[tuple[Any, asyncio.Task[Reply]]] = asyncio.Queue()
            tasks.create_task(_answer(client, arrived))
            async for message in client.messages:
                await arrived.put((message, tasks.create_task(_final(origin, take, message))))
    except* aiomqtt.MqttError as failed:
        lost = failed
    if lost is not None:
        reason = lost.exceptions[0]
        raise InputError(f"MQTT broker {broker.host}:{broker.port}", "the connection", f"failed: {reason}") from reason


async def _final(origin: str, take: Take, message: Any) -> Reply:
    """The last word on a message."""
    try:
        statement, signature, body = statement_of(origin, str(message.topic), bytes(message.payload))
    except RecordError as error:
        problem = {"type": "about:blank", "title": "malformed", "status": 400, "detail": str(error)}
        return Reply(PROBLEM_TYPE, json.dumps(problem).encode())
    content_type = getattr(message.properties, "ContentType", ROWS_TYPE)
    while True:
        reply = await take(statement, signature, body, content_type)
        if reply.retry_after_s is None:
            return reply
        await asyncio.sleep(reply.retry_after_s)


async def _answer(client: Any, arrived: asyncio.Queue[tuple[Any, asyncio.Task[Reply]]]) -> None:
    """Publish replies and acknowledge messages, in the order in which they came."""
    while True:
        message, final = await arrived.get()
        reply = await final
        properties = None
        if message.properties is not None:
            properties = _properties("PUBLISH", ContentType=reply.content_type)
            if hasattr(message.properties, "CorrelationData"):
                properties.CorrelationData = message.properties.CorrelationData
        await client.publish(_reply_topic(message), reply.body, qos=1, properties=properties)
        # aiomqtt has no acknowledgement by hand; paho, on which it is built, has
        client._client.ack(message.mid, message.qos)


def _reply_topic(message: Any) -> str:
    """As the sender asks, unless that would be read as readings or reach into the broker."""
    asked = str(getattr(message.properties, "ResponseTopic", ""))
    if asked and not asked.startswith((TOPIC, "$")) and not set(asked) & set("+#"):
        return asked
    return REPLY_TOPIC + str(message.topic).removeprefix(TOPIC)


def _client(aiomqtt: Any, broker: Broker) -> Any:
    import ssl

    options: dict[str, Any] = {"protocol": aiomqtt.ProtocolVersion.V311, "clean_session": False}
    if broker.version_5:
        properties = _properties(
            "CONNECT",
            ReceiveMaximum=broker.in_flight_max,
            MaximumPacketSize=PAYLOAD_BYTES_MAX + 2**16,
            SessionExpiryInterval=_SESSION_EXPIRY_S,
        )
        options = {"protocol": aiomqtt.ProtocolVersion.V5, "clean_start": False, "properties": properties}
    client = aiomqtt.Client(
        broker.host,
        broker.port,
        identifier=broker.identifier,
        username=broker.username,
        password=broker.password,
        tls_context=ssl.create_default_context() if broker.tls else None,
        **options,
    )
    client._client.manual_ack_set(True)
    return client


def _properties(packet_type: str, **values: object) -> Any:
    from paho.mqtt import packettypes, properties

    make: Any = properties.Properties
    made = make(getattr(packettypes.PacketTypes, packet_type))
    for name, value in values.items():
        setattr(made, name, value)
    return made


def _library() -> Any:
    try:
        import aiomqtt
    except ImportError:
        raise InputError("MQTT", "package aiomqtt", "is needed: pip install 'tellegen[meters]'") from None
    return aiomqtt
