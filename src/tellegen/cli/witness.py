"""``tellegen witness``: sign what logs show, and refuse what contradicts it (C2SP tlog-witness over HTTP)."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import nullcontext
from http import HTTPStatus
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tellegen.cli import app, errors
from tellegen.errors import InputError
from tellegen.service.door import Door

if TYPE_CHECKING:
    import uvicorn

    from tellegen.journal import Witness

_Message = MutableMapping[str, Any]
CONNECTIONS_MAX = 500
BODY_SECONDS_MAX = 10.0
TURN_BESIDE_S = 0.002
"""How long who has shown nothing waits where a log that has is being answered."""
_App = Callable[[_Message, Callable[[], Awaitable[_Message]], Callable[[_Message], Awaitable[None]]], Awaitable[None]]


@app.command()
def witness(
    directory: Annotated[Path, typer.Argument(help="Directory of the witness: its key and its memory.")],
    log: Annotated[list[str], typer.Option(help="Verifier key of a log to watch; give it once per log.")],
    name: Annotated[str | None, typer.Option(help="Name of a new witness, such as witness.example/w1.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0: any free one.")] = 8390,
    simulation: Annotated[bool, typer.Option("--simulation", help="Watch simulated shards too.")] = False,
) -> None:
    """Watch logs: cosign a checkpoint only if it extends the one before (POST /add-checkpoint)."""
    from tellegen.journal import NoteVerifier, Witness
    from tellegen.registry.shard import SIMULATED_PREFIX

    if find_spec("uvicorn") is None:
        raise InputError("tellegen witness", "package uvicorn", "is not installed; pip install 'tellegen[service]'")
    watched = [NoteVerifier.parse(vkey) for vkey in log]
    for verifier in watched:
        if verifier.name.startswith(SIMULATED_PREFIX) and not simulation:
            raise InputError("--log", verifier.name, "is a simulation; give --simulation where that is meant")
    if not (directory / "witness.key").exists():
        if name is None:
            raise InputError(directory, "witness.key", "is missing; give --name NAME to make a new witness here")
        Witness.create(directory, name)
    from tellegen.service.listening import require_descriptors

    require_descriptors(CONNECTIONS_MAX)
    with socket.create_server((host, port), backlog=1024) as listener:
        keeper = Witness(directory, watched, lambda: int(time.time()))
        try:
            where = f"http://{host}:{listener.getsockname()[1]}"
            errors.print(f"{keeper.vkey}\nwatches {', '.join(v.name for v in watched)} at {where}/add-checkpoint")
            door = Door(CONNECTIONS_MAX, time.monotonic)
            asyncio.run(witness_server(witness_app(keeper, door), door).serve([listener]))
        finally:
            keeper.close()


def witness_server(application: _App, door: Door) -> uvicorn.Server:
    """The HTTP server of a witness, behind the door through which whoever asks it comes."""
    import uvicorn

    from tellegen.service.listening import GuardedServer

    config = uvicorn.Config(
        application, log_level="error", access_log=False, lifespan="off", timeout_keep_alive=5, proxy_headers=False
    )
    return GuardedServer(config, door, BODY_SECONDS_MAX)


def witness_app(keeper: Witness, door: Door | None = None) -> _App:
    """The witness as an ASGI application.

    It answers in the event loop, one request at a time, so that checking the size on record and
    storing the new one cannot be interleaved. Addresses have their turn one after the other; a log that
    has shown more than before keeps its connection, and goes before those who have shown nothing.
    """
    from tellegen.journal.witness import REQUEST_BYTES_MAX, Reply
    from tellegen.service.door import GoneError, visitor_of
    from tellegen.service.turns import Turns

    door = door or Door(1, time.monotonic)
    turns = Turns(1, door, TURN_BESIDE_S)

    async def answer(
        scope: _Message, receive: Callable[[], Awaitable[_Message]], send: Callable[[_Message], Awaitable[None]]
    ) -> None:
        if scope["type"] != "http":
            return
        reply: Reply | None = None
        if scope["path"] != "/add-checkpoint":
            reply = Reply(HTTPStatus.NOT_FOUND, "a witness answers POST /add-checkpoint\n")
        elif scope["method"] != "POST":
            reply = Reply(HTTPStatus.METHOD_NOT_ALLOWED, "a witness answers POST /add-checkpoint\n")
        body, more = bytearray(), reply is None
        try:
            async with asyncio.timeout(BODY_SECONDS_MAX):
                while more:
                    message = await receive()
                    if message["type"] != "http.request":
                        return
                    body += message.get("body", b"")
                    more = message.get("more_body", False)
                    if len(body) > REQUEST_BYTES_MAX:
                        reply = Reply(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {REQUEST_BYTES_MAX} bytes\n")
                        break
        except TimeoutError:
            reply = Reply(HTTPStatus.REQUEST_TIMEOUT, f"the request was not there in {BODY_SECONDS_MAX:g} s\n")
        visitor = visitor_of(scope)
        try:
            async with nullcontext() if visitor.sources else turns.turn(visitor):
                reply = reply or keeper.add_checkpoint(bytes(body))
        except GoneError:
            return
        if reply.log:
            door.prove(visitor, reply.log)
            door.attend()
        data = reply.text.encode()
        headers = [(b"content-type", reply.content_type.encode()), (b"content-length", str(len(data)).encode())]
        if not visitor.sources:
            headers.append((b"connection", b"close"))  # what may be left of the body is not waited for
        await send({"type": "http.response.start", "status": int(reply.status), "headers": headers})
        await send({"type": "http.response.body", "body": data})

    return answer
