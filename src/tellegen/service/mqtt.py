"""Readings by MQTT: a subscriber that hands a source's submissions to the intake and publishes what it says.

A head-end publishes, with QoS 1 and not retained, to ``tellegen/readings/SOURCE/FEEDER/INTERVAL/SEQUENCE`` a payload
of 64 bytes of Ed25519 signature and then the body; the signature is that of the `records.Statement` which topic and
body make. In names, what MQTT gives a meaning (``/``, ``+``, ``#``) and ``%`` are percent-encoded. The reply, a receipt
or a problem, names route, source, sequence and digest of the body. It goes to ``tellegen/replies/`` and the same four
levels, or with its correlation data to the MQTT 5 response topic where that lies below ``tellegen/replies/SOURCE/``:
nobody has the intake speak to others. The content type of MQTT 5 tells the form of the body; without it the body is
canonical rows.

A message is acknowledged to the broker only when the intake has said the last word: durable, or refused for good. So
a crash on either side makes the broker deliver again, and a submission that is on record already gets the same receipt
again. While the intake is busy nothing is acknowledged, and the broker may send only `in_flight_max` messages ahead
(MQTT 5 receive maximum; before MQTT 5 what is more is refused). Acknowledgements keep the order of arrival, as the
standard demands: so each source has a session of its own (`mqtt_sessions`), and waits only for itself.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote, unquote, urlsplit

from tellegen.errors import InputError
from tellegen.records import RecordError, Route, Statement
from tellegen.service.counters import Counters

TOPIC = "tellegen/readings"
REPLY_TOPIC = "tellegen/replies"
ROWS_TYPE = "application/vnd.tellegen.rows"
PROBLEM_TYPE = "application/problem+json"
SIGNATURE_BYTES = 64
PAYLOAD_BYTES_MAX = 4 * 2**20
_LEVEL_CHARACTERS_MAX = 300
_NUMBER_DIGITS_MAX = 19
_SESSION_EXPIRY_S = 24 * 3600
RATE_WAIT_S_MAX = 60.0
"""A message that is too fast waits so long for its turn; then it is refused."""
_TAKEN_OVER = 142
"""Reason code of MQTT 5: another client has connected under the same identifier."""
_NEVER_SENT_RETAINED = 2


@dataclass(frozen=True, slots=True)
class Reply:
    """What the intake says of a submission.

    Attributes
    ----------
    content_type, body : the receipt or the problem.
    retry_after_s : it is too busy to say anything final; to be asked again then. None: this is final.
    is_rate : it is too busy because this very source is too fast.
    """

    content_type: str
    body: bytes
    retry_after_s: float | None = None
    is_rate: bool = False


class LostError(InputError):
    """A broker cannot be reached, or has left.

    Attributes
    ----------
    is_taken : the broker says that another client has come under the same identifier.
    """

    def __init__(self, broker: Broker, reason: BaseException, *, is_taken: bool = False) -> None:
        self.is_taken = is_taken
        super().__init__(f"MQTT broker {broker.host}:{broker.port}", "the connection", f"failed: {reason}")


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
    version_5 : MQTT 5; else 3.1.1, which knows neither response topics nor a receive maximum.
    in_flight_max : messages of one source that are handed to the intake at a time.
    username, password : as the broker demands.
    tls : connect with TLS, the broker's certificate checked against the system's authorities.
    """

    host: str
    port: int = 1883
    version_5: bool = True
    in_flight_max: int = 32
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
    return "/".join((root, *map(_level, levels)))


def topics_of(source: str) -> str:
    """Where a source publishes; what it is answered lies below the same level of `REPLY_TOPIC`."""
    return f"{TOPIC}/{_level(source)}/+/+/+"


def _level(name: str) -> str:
    return quote(name, safe=" !$&'()*,:;=@")


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


async def reach(broker: Broker) -> None:
    """Connect once.

    Raises
    ------
    InputError : the extra ``meters`` is not installed, or the broker cannot be reached.
    """
    aiomqtt = _library()
    try:
        async with _client(aiomqtt, broker, None):
            pass
    except aiomqtt.MqttError as failed:
        raise LostError(broker, failed) from failed


async def subscribe(
    broker: Broker,
    identifier: str,
    origin: str,
    source: str,
    take: Take,
    counters: Counters,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Receive readings of a source until cancelled, or the connection fails.

    Parameters
    ----------
    broker : where they come from.
    identifier : of this subscriber; the broker keeps its session, and what was not acknowledged, under it.
    origin : name of the shard that they are for.
    take : the intake.
    ready : called once subscribed.

    Raises
    ------
    LostError : the broker cannot be reached, or has left. Whoever calls again loses nothing: the broker delivers again
        what was not acknowledged.
    """
    aiomqtt = _library()
    client = _client(aiomqtt, broker, identifier)
    lost: BaseExceptionGroup[Exception] | None = None
    try:
        async with client, asyncio.TaskGroup() as tasks:
            await client.subscribe(topics_of(source), **_how_to_subscribe(broker))
            ready()
            arrived: asyncio.Queue[tuple[Any, asyncio.Task[Reply]]] = asyncio.Queue(2 * broker.in_flight_max)
            tasks.create_task(_answer(client, arrived, counters))
            under_way: set[asyncio.Task[Reply]] = set()
            async for message in client.messages:
                ignored = why_ignored(message)
                if ignored is not None:
                    counters.mqtt_ignored[ignored] += 1
                    client._client.ack(message.mid, message.qos)
                    continue
                saying = _too_many(message) if len(under_way) >= broker.in_flight_max else _final(origin, take, message)
                task = tasks.create_task(saying)
                under_way.add(task)
                task.add_done_callback(under_way.discard)
                await arrived.put((message, task))
    except* aiomqtt.MqttError as failed:
        lost = failed
    if lost is not None:
        if _is_cancelled():  # it was lost on the way out
            raise asyncio.CancelledError
        reason: BaseException = lost.exceptions[0]
        raise LostError(broker, reason, is_taken=_is_taken(reason)) from reason


def why_ignored(message: Any) -> str | None:
    """Why a message is not taken at all; None: it is.

    What was retained was sent long ago to whoever subscribes, and comes once more each time that one does. Of QoS 0 no
    broker holds anything back, however many wait here.
    """
    if message.retain:
        return "retained"
    return "qos-0" if message.qos == 0 else None


def _is_taken(reason: BaseException | None) -> bool:
    """Whether the broker says so, which before MQTT 5 it cannot."""
    while reason is not None:
        code = getattr(reason, "rc", None)
        if getattr(code, "value", code) == _TAKEN_OVER:
            return True
        reason = reason.__cause__
    return False


async def _final(origin: str, take: Take, message: Any) -> Reply:
    """The last word on a message."""
    try:
        statement, signature, body = statement_of(origin, str(message.topic), bytes(message.payload))
    except RecordError as error:
        return _problem(message, "malformed", 400, str(error))
    content_type = getattr(message.properties, "ContentType", ROWS_TYPE)
    waited_s = 0.0
    while True:
        reply = await take(statement, signature, body, content_type)
        if reply.retry_after_s is None or (reply.is_rate and waited_s >= RATE_WAIT_S_MAX):
            return reply
        await asyncio.sleep(reply.retry_after_s)
        waited_s = waited_s + reply.retry_after_s if reply.is_rate else 0.0


async def _too_many(message: Any) -> Reply:
    return _problem(message, "rate", 429, "too many messages of this source are under way; send it again")


def _problem(message: Any, name: str, status: int, detail: str) -> Reply:
    """About a message that nobody has looked into."""
    problem = {"type": f"/problems/{name}", "title": name, "status": status, "detail": detail}
    levels = str(message.topic).split("/")[2:]
    said = {"route": Route.READINGS, "source": unquote(levels[0]), "sequence": unquote(levels[-1])}
    digest = hashlib.sha256(bytes(message.payload)[SIGNATURE_BYTES:]).hexdigest()
    return Reply(PROBLEM_TYPE, json.dumps(problem | said | {"body_sha256": digest}).encode())


async def _answer(client: Any, arrived: asyncio.Queue[tuple[Any, asyncio.Task[Reply]]], counters: Counters) -> None:
    """Publish replies and acknowledge messages, in the order in which they came."""
    while not _is_cancelled():
        message, final = await arrived.get()
        reply = await final
        properties = None
        if message.properties is not None:
            properties = _properties("PUBLISH", ContentType=reply.content_type)
            if hasattr(message.properties, "CorrelationData"):
                properties.CorrelationData = message.properties.CorrelationData
        await client.publish(_reply_topic(message, counters), reply.body, qos=1, properties=properties)
        # aiomqtt has no acknowledgement by hand; paho, on which it is built, has
        client._client.ack(message.mid, message.qos)


def _is_cancelled() -> bool:
    """Before Python 3.12 `asyncio.wait_for`, which aiomqtt uses, may swallow it."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _reply_topic(message: Any, counters: Counters) -> str:
    """As the sender asks, where that is a place of its own; else the intake would speak to others in its name."""
    usual = REPLY_TOPIC + str(message.topic).removeprefix(TOPIC)
    own = "/".join([*usual.split("/")[:3], ""])
    asked = getattr(message.properties, "ResponseTopic", None)
    if asked is None:
        return usual
    if str(asked).startswith(own) and not set(str(asked)) & set("+#\0"):
        return str(asked)
    counters.mqtt_ignored["response-topic"] += 1
    return usual


def _how_to_subscribe(broker: Broker) -> dict[str, Any]:
    if not broker.version_5:
        return {"qos": 1}
    from paho.mqtt.subscribeoptions import SubscribeOptions

    return {"options": SubscribeOptions(qos=1, retainHandling=_NEVER_SENT_RETAINED)}


def _client(aiomqtt: Any, broker: Broker, identifier: str | None) -> Any:
    """A client whose session is kept under its identifier; without one it is not kept."""
    import ssl

    afresh = identifier is None
    options: dict[str, Any] = {"protocol": aiomqtt.ProtocolVersion.V311, "clean_session": afresh}
    if broker.version_5:
        properties = _properties(
            "CONNECT",
            ReceiveMaximum=broker.in_flight_max,
            MaximumPacketSize=PAYLOAD_BYTES_MAX + 2**16,
            SessionExpiryInterval=0 if afresh else _SESSION_EXPIRY_S,
        )
        options = {"protocol": aiomqtt.ProtocolVersion.V5, "clean_start": afresh, "properties": properties}
    client = aiomqtt.Client(
        broker.host,
        broker.port,
        identifier=identifier,
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
