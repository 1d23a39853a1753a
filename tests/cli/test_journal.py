"""The log at the command line: anybody can audit it, and an operator who lies is found out."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tellegen.cli.witness import witness_app, witness_server
from tellegen.journal import Journal, NoteVerifier, Witness, tiles
from tellegen.journal.witness import REQUEST_BYTES_MAX
from tellegen.privacy import Vault
from tellegen.records import Document
from tellegen.service.door import Door

Tellegen = Callable[..., Any]
Grow = Callable[..., Journal]
NOW = 1_700_000_000


@pytest.fixture
def log(grow: Grow, tmp_path: Path) -> Journal:
    return grow(tmp_path / "log", 6)


@pytest.fixture
def served(log: Journal, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """A witness on a port of its own: its address and its key."""
    pytest.importorskip("uvicorn", reason="uvicorn is not installed (extra `service`)")
    Witness.create(tmp_path / "w", "witness.example/w1", bytes(32))
    keeper = Witness(tmp_path / "w", [log.verifier], lambda: NOW)
    listener = socket.create_server(("127.0.0.1", 0))
    door = Door(8, time.monotonic)
    server = witness_server(witness_app(keeper, door), door)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}", keeper.vkey
    server.should_exit = True
    thread.join()
    keeper.close()


def saved(path: Path, answer: Any) -> Path:
    assert answer.status == 0, answer.err
    path.write_text(answer.out)
    return path


def receipt(tellegen: Tellegen, directory: Path, entry: int, path: Path) -> Path:
    """A receipt as a customer keeps it."""
    return saved(path, tellegen("journal", "prove", directory, "--entry", entry, "--json"))


def test_a_receipt_becomes_witness_cosigned(
    tellegen: Tellegen, grow: Grow, log: Journal, served: tuple[str, str], tmp_path: Path
) -> None:
    """The two levels of law 6, from the operator's promise to one that a witness stands for."""
    run, (url, witness_key), key = tmp_path / "log", served, log.verifier.vkey
    early = receipt(tellegen, run, 2, tmp_path / "early.json")
    asked = ("--key", key, "--witness-key", witness_key)
    assert json.loads(tellegen("journal", "verify-receipt", early, *asked, "--json").out)["level"] == "operator-final"
    for growth in (0, 3):
        grow(log, growth)
        answer = tellegen("journal", "cosign", run, "--witness", url, "--witness-key", witness_key)
        assert (answer.status, answer.out) == (
            0,
            f"{len(log):,} entries cosigned by witness.example/w1 at 2023-11-14 22:13:20Z\n",
        )
    late = receipt(tellegen, run, 2, tmp_path / "late.json")
    answer = tellegen("journal", "verify-receipt", late, *asked)
    assert answer.status == 0
    assert "level      witness-cosigned\n             by witness.example/w1 at 2023-11-14" in answer.out
    assert tellegen("verify", run, "--key", key, "--witness-key", witness_key).status == 0
    assert json.loads(tellegen("journal", "compare", early, late, "--json").out)["verdict"] == "undecided"
    assert (
        json.loads(tellegen("journal", "compare", early, late, "--log", run, "--json").out)["verdict"] == "consistent"
    )


def test_a_witness_refuses_the_second_history_and_two_receipts_prove_the_lie(
    tellegen: Tellegen, grow: Grow, log: Journal, served: tuple[str, str], tmp_path: Path
) -> None:
    url, witness_key = served
    other = grow(tmp_path / "other", 6, salt="for Ben only")
    cosign = ("--witness", url, "--witness-key", witness_key)
    assert tellegen("journal", "cosign", tmp_path / "log", *cosign).status == 0
    answer = tellegen("journal", "cosign", tmp_path / "other", *cosign)
    assert (answer.status, answer.out) == (
        1,
        "NO: witness.example/w1 has signed another root for 6 entries: two histories\n",
    )
    assert not (other.folder / "cosigned").exists()
    ada = receipt(tellegen, tmp_path / "log", 1, tmp_path / "ada.json")
    ben = receipt(tellegen, tmp_path / "other", 1, tmp_path / "ben.json")
    for file in (ada, ben):
        assert tellegen("journal", "verify-receipt", file).status == 0
    answer = tellegen("journal", "compare", ada, ben, "--key", log.verifier.vkey)
    assert answer.status == 1
    assert "TWO HISTORIES: " in answer.out
    assert json.loads(tellegen("journal", "compare", ada, ben, "--json").out)["ok"] is False
    kept = next((tmp_path / "w").glob("*.contradiction"))
    assert tellegen("journal", "compare", ada, kept).status == 1


def test_an_export_answers_for_the_log(tellegen: Tellegen, grow: Grow, log: Journal, tmp_path: Path) -> None:
    run, out = tmp_path / "log", tmp_path / "out"
    early = receipt(tellegen, run, 0, tmp_path / "early.json")
    grow(log, 300)
    assert tellegen("journal", "export", run, out).out.startswith(f"{out}: 306 entries; 5 tiles")
    assert json.loads(tellegen("journal", "export", run, out, "--json").out) == {"size": 306, "files": 0, "bytes": 0}
    answer = tellegen("journal", "compare", early, out, "--log", out, "--json")
    assert (answer.status, json.loads(answer.out)["verdict"]) == (0, "consistent")
    proof = saved(tmp_path / "proof", tellegen("journal", "prove", run, "--from", 6))
    answer = tellegen("journal", "compare", early, run, "--proof", proof)
    assert answer.out.endswith("consistent: the log of 306 entries begins with the one of 6\n")
    other = grow(tmp_path / "other", 310, salt="other")
    tiles.export(other, tmp_path / "lies")
    answer = tellegen("journal", "compare", early, out, "--log", tmp_path / "lies")
    assert (answer.status, "TWO HISTORIES" in answer.out) == (1, True)


def test_a_log_over_http_is_read_like_its_export(tellegen: Tellegen, grow: Grow, log: Journal, tmp_path: Path) -> None:
    from functools import partial
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

    early = receipt(tellegen, tmp_path / "log", 0, tmp_path / "early.json")
    grow(log, 30)
    tiles.export(log, tmp_path / "out")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "out"))) as server:
        threading.Thread(target=server.serve_forever).start()
        url = f"http://127.0.0.1:{server.server_port}"
        answer = tellegen("journal", "compare", early, tmp_path / "out", "--log", url)
        missing = tellegen("journal", "compare", early, tmp_path / "out", "--log", f"{url}/nowhere")
        server.shutdown()
    assert answer.out.endswith("consistent: the log of 36 entries begins with both\n")
    assert (missing.status, "404" in missing.err) == (2, True)


def test_what_is_on_record_is_listed(tellegen: Tellegen, log: Journal, tmp_path: Path) -> None:
    document = json.loads(tellegen("journal", "inspect", tmp_path / "log", "--last", 2, "--json").out)
    assert (document["size"], document["kinds"]) == (6, {"erasures": {"entries": 6, "rows": 6}})
    assert [entry["index"] for entry in document["last"]] == [4, 5]
    assert document["log_bytes"] == sum(p.stat().st_size for p in (log.folder / "log").iterdir())
    answer = tellegen("journal", "inspect", tmp_path / "log")
    assert "example.org/feeder: 6 entries under 2 checkpoints" in answer.out


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A journal with its vault, as an operator has it."""
    path = tmp_path / "run"
    with Vault.create(path / "vault", [1], b"seed") as vault:
        key = vault.purpose_key("operator signature")
        with Journal.create(path, "example.org/feeder", key) as journal:
            for number in range(3):
                text = Document(f"text {number}", b"anybody may read this")
                about = {"feeder": "f", "intervals": 1, "source": "operator", "interval": 0, "known_at": number}
                journal.append(vault.seal_document(text, **about))  # type: ignore[arg-type]
                journal.commit(number)
    return path


def test_a_torn_tail_is_named_and_repaired_and_damage_is_not(tellegen: Tellegen, run: Path) -> None:
    assert tellegen("journal", "check", run).out == "the journal is whole\n"
    segment = run / "journal" / "log" / "000000.seg"
    with segment.open("ab") as file:
        file.write(b"torn")
    answer = tellegen("journal", "check", run, "--json")
    problems = json.loads(answer.out)["problems"]
    assert (answer.status, [p["file"] for p in problems], problems[0]["repairable"]) == (1, ["log/000000.seg"], True)
    assert tellegen("journal", "repair", run).out.endswith("1 things put right\n")
    assert tellegen("journal", "check", run).status == 0
    assert tellegen("journal", "repair", run).out == "nothing to repair\n"
    whole = segment.read_bytes()
    segment.write_bytes(whole[:50] + bytes([whole[50] ^ 1]) + whole[51:])
    assert tellegen("journal", "check", run).status == 1
    refused = tellegen("journal", "repair", run)
    assert (refused.status, segment.read_bytes()[:50]) == (2, whole[:50])


def test_a_damaged_cosigned_checkpoint_is_named(tellegen: Tellegen, run: Path) -> None:
    (run / "journal" / "cosigned").write_text("something else")
    answer = tellegen("journal", "check", run)
    assert (answer.status, "cosigned again" in answer.out) == (1, True)
    assert tellegen("verify", run).status == 1


def test_a_row_is_proved_with_and_without_the_vault(tellegen: Tellegen, run: Path, tmp_path: Path) -> None:
    """`journal prove` shows that the row's hash is there; `receipt`, with the vault, which row it is."""
    public = saved(tmp_path / "public", tellegen("journal", "prove", run, "--entry", 1, "--row", 0))
    key = (run / "journal" / "operator.pub").read_text().strip()
    assert "entry 1 is on record" in tellegen("journal", "verify-receipt", public, "--key", key).out
    whole = saved(tmp_path / "whole", tellegen("receipt", run, "--entry", 1, "--row", 0, "--json"))
    assert "row 0 of entry 1 is on record" in tellegen("journal", "verify-receipt", whole, "--key", key).out
    document = json.loads(whole.read_text())
    document["row_hex"] = document["row_hex"].replace("6", "7", 1)
    whole.write_text(json.dumps(document))
    answer = tellegen("journal", "verify-receipt", whole, "--json")
    assert (answer.status, json.loads(answer.out)["ok"]) == (1, False)


def test_a_receipt_of_text_alone_carries_its_entry(tellegen: Tellegen, log: Journal, tmp_path: Path) -> None:
    """So does an answer of an intake, which holds several; without the line, the entry must be given."""
    text = saved(tmp_path / "receipt", tellegen("journal", "prove", tmp_path / "log", "--entry", 4))
    key = ("--key", log.verifier.vkey)
    assert "entry 4 is on record" in tellegen("journal", "verify-receipt", text, *key).out
    reply = tmp_path / "reply.json"
    reply.write_text(json.dumps({"entries": [1, 4], "receipts": log.receipts([1, 4])}))
    assert len(json.loads(tellegen("journal", "verify-receipt", reply, *key, "--json").out)["receipts"]) == 2
    reply.write_text(json.dumps({"receipts": ["not a receipt at all"]}))
    assert tellegen("journal", "verify-receipt", reply, *key).status == 1
    bare = text.read_text().split("\n")
    text.write_text("\n".join([bare[0], *bare[2:]]))
    assert "give --entry FILE" in tellegen("journal", "verify-receipt", text, *key).err
    (tmp_path / "entry").write_bytes(log.entry(4).to_bytes())
    assert tellegen("journal", "verify-receipt", text, *key, "--entry", tmp_path / "entry").status == 0
    (tmp_path / "entry").write_bytes(log.entry(3).to_bytes())
    answer = tellegen("journal", "verify-receipt", text, *key, "--entry", tmp_path / "entry")
    assert (answer.status, answer.out) == (1, "NO: the inclusion proof does not lead to the signed root\n")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("prove", "{log}"), "takes either --entry"),
        (("prove", "{log}", "--entry", 6), "entry 6 is not on record; there are 6, from 0"),
        (("prove", "{log}", "--entry", 1, "--row", 7), "rows 0 to 0, not 7"),
        (("prove", "{log}", "--from", 3, "--to", 5), "last checkpoints are of 0, 6 entries"),
        (("prove", "{log}", "--from", 7), "are not both there"),
        (("verify-receipt", "{log}/nothing"), "cannot be read"),
        (("verify-receipt", "{file}"), "key is not in the file"),
        (("verify-receipt", "{file}", "--key", "nonsense"), "verifier key is not one line"),
        (("compare", "{file}", "{log}", "--key", "{key}"), "not a note"),
        (("inspect", "{file}"), "operator.pub"),
        (("check", "{file}"), "does not exist"),
        (("cosign", "{log}", "--witness", "ftp://w", "--witness-key", "{witness}"), "not an http:// or https://"),
        (("cosign", "{log}", "--witness", "http://127.0.0.1:1", "--witness-key", "{witness}"), "cannot be reached"),
        (("cosign", "{log}", "--witness", "http://127.0.0.1:1", "--witness-key", "{key}"), "witness's cosignature key"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    tellegen: Tellegen, log: Journal, tmp_path: Path, arguments: tuple[object, ...], problem: str
) -> None:
    (tmp_path / "file").write_text("nothing of the kind\n")
    Witness.create(tmp_path / "w", "witness.example/w1")
    names = {
        "log": tmp_path / "log",
        "file": tmp_path / "file",
        "key": log.verifier.vkey,
        "witness": (tmp_path / "w" / "witness.pub").read_text().strip(),
    }
    answer = tellegen("journal", *[str(a).format(**names) for a in arguments])
    assert answer.status == 2
    assert problem in answer.err
    assert answer.err.count("\n") == 1


def asked(application: Any, method: str, path: str, chunks: list[bytes]) -> tuple[int, str, bytes]:
    """Status, content type and body of one request to an ASGI application."""
    waiting, sent = list(chunks), list[dict[str, Any]]()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": waiting.pop(0), "more_body": bool(waiting)}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(application({"type": "http", "method": method, "path": path}, receive, send))
    return sent[0]["status"], dict(sent[0]["headers"])[b"content-type"].decode(), sent[1]["body"]


def test_a_witness_answers_one_question_of_limited_length(log: Journal, tmp_path: Path) -> None:
    Witness.create(tmp_path / "w", "witness.example/w1", bytes(32))
    keeper = Witness(tmp_path / "w", [NoteVerifier.parse(log.verifier.vkey)], lambda: NOW)
    application = witness_app(keeper)
    body = f"old 0\n\n{log.checkpoint.note}".encode()
    assert asked(application, "GET", "/add-checkpoint", [b""])[0] == 405
    assert asked(application, "POST", "/anything", [b""])[0] == 404
    assert asked(application, "POST", "/add-checkpoint", [bytes(REQUEST_BYTES_MAX), b"\0"])[0] == 413
    status, _, answer = asked(application, "POST", "/add-checkpoint", [body[:10], body[10:]])
    assert (status, answer.decode().startswith("— witness.example/w1 ")) == (200, True)
    assert asked(application, "POST", "/add-checkpoint", [body])[:2] == (409, "text/x.tlog.size")
    keeper.close()


def test_a_new_witness_needs_a_name(tellegen: Tellegen, log: Journal, tmp_path: Path) -> None:
    pytest.importorskip("uvicorn", reason="uvicorn is not installed (extra `service`)")
    answer = tellegen("witness", tmp_path / "new", "--log", log.verifier.vkey)
    assert (answer.status, "give --name NAME" in answer.err) == (2, True)


def test_a_witness_does_not_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tellegen.cli.witness.BODY_SECONDS_MAX", 0.05)
    Witness.create(tmp_path / "w", "witness.example/w1", bytes(32))
    keeper = Witness(tmp_path / "w", [], lambda: 0)
    sent: list[Any] = []

    async def never() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/add-checkpoint"}
    asyncio.run(witness_app(keeper)(scope, never, send))
    keeper.close()
    assert sent[0]["status"] == 408
