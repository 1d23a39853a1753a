"""The process that signs checkpoints has the key; the one that strangers talk to asks it, and gets heads alone."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from nacl.signing import VerifyKey

from tellegen.custody import CustodyError, SigningAgent
from tellegen.custody.roles import ROLES
from tellegen.custody.secret_file import SecretFile
from tellegen.custody.signer import agent_of
from tellegen.custody.signing_agent import HeadSigner, serve_socket
from tellegen.custody.wrapping import VARIABLE, wrapper_wanted
from tellegen.journal import Journal, JournalError
from tellegen.privacy import Vault
from tellegen.privacy.recorder import Recorder, Span
from tellegen.records import Document
from tellegen.registry import create_shard
from tellegen.registry.shard import SIGNING_PURPOSE, open_shard

ORIGIN, SEED = "city.example/north", bytes(range(32))


def head(size: int, root: int = 0, origin: str = ORIGIN) -> bytes:
    return f"{origin}\n{size}\n{base64.b64encode(bytes([root]) * 32).decode()}\n".encode()


def test_heads_of_its_log_are_signed_each_larger_than_the_one_before() -> None:
    signer = HeadSigner(ORIGIN, SEED)
    for size in (0, 5, 5, 9):
        VerifyKey(signer.public_key).verify(head(size), signer.sign(head(size)))
    for wrong, why in ((head(8), "has signed 9 entries"), (head(9, root=1), "with another root")):
        with pytest.raises(CustodyError, match=why):
            signer.sign(wrong)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"tellegen-batch@v2\ncity.example/north\nadmissions\nregistrar\n\n\n7\n1\n" + b"0" * 64 + b"\n",
        b"tellegen-admissions@v1\ncity.example/north\n" + b"0" * 64 + b"\n",
        head(1, origin="city.example/south"),
        head(1) + b"more\n",
        head(1)[:-1],
        head(1).replace(b"\n1\n", b"\n01\n"),
        head(1).replace(b"\n1\n", b"\n-1\n"),
        head(1).replace(b"AAAA", b"A", 1),
        b"\xff\n1\n\n",
    ],
)
def test_nothing_else_is_signed(text: bytes) -> None:
    """No change of the registry, no admission, no head of another log."""
    with pytest.raises(CustodyError, match="does not sign it"):
        HeadSigner(ORIGIN, SEED).sign(text)


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    create_shard(tmp_path / "north", ORIGIN, 1_700_000_000)
    return tmp_path / "north"


def test_a_journal_is_written_by_whoever_asks_the_agent(shard: Path) -> None:
    with closing(agent_of(shard, None)) as agent, Vault.open(shard / "vault") as vault:
        with Journal.open(shard, agent) as journal:
            Recorder(journal, vault, "").put_document(Document("note", b"x"), Span(1_700_000_001, 0))
            journal.commit(1_700_000_001)
            before = journal.checkpoint
        agent.renew()
        with Journal.open(shard, agent) as journal:
            assert journal.checkpoint == before
        agent.sign(head(9))
        with pytest.raises(CustodyError, match="has signed 9 entries"):
            agent.sign(head(2))
    with Journal.open(shard) as journal:
        assert journal.checkpoint == before


def test_another_agent_finds_a_wrapped_key_as_the_first_did(shard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that asks forgets where the key's key lies; whoever signs for it is told each time."""
    outside = shard.parent / "outside.key"
    outside.write_bytes(bytes(range(32)))
    outside.chmod(0o600)
    monkeypatch.setenv(f"{VARIABLE}_LOG", f"file:{outside}")
    SecretFile(ROLES[SIGNING_PURPOSE].path(shard / "vault"), SIGNING_PURPOSE).wrap(wrapper_wanted("log"))
    with closing(agent_of(shard, None)) as agent:
        assert f"{VARIABLE}_LOG" not in os.environ
        agent.renew()
        agent.sign(head(3))


def test_what_is_wrong_with_the_key_is_said(shard: Path, tmp_path: Path) -> None:
    create_shard(tmp_path / "other", ORIGIN, 1_700_000_000)
    (shard / "vault" / "log.key").unlink()
    with pytest.raises(CustodyError, match="kept elsewhere"):
        agent_of(shard, None)
    (tmp_path / "other" / "vault" / "log.key").rename(shard / "vault" / "log.key")
    with pytest.raises(CustodyError, match="the key in its vault is not that of"):
        agent_of(shard, None)


def test_an_agent_that_has_ended_is_one_line_and_nothing_is_signed(shard: Path) -> None:
    with closing(agent_of(shard, None)) as agent, Journal.open(shard, agent) as journal:
        assert agent._process is not None
        agent._process.kill()
        agent._process.wait()
        with Vault.open(shard / "vault") as vault:
            Recorder(journal, vault, "").put_document(Document("note", b"x"), Span(1_700_000_001, 0))
        with pytest.raises(JournalError, match="the signer"):
            journal.commit(1_700_000_001)


@pytest.mark.skipif(os.name != "posix", reason="sockets of the file system")
def test_an_agent_of_another_user_is_asked_at_its_socket(tmp_path: Path) -> None:
    signer, path = HeadSigner(ORIGIN, SEED), tmp_path / "agent.sock"
    threading.Thread(target=serve_socket, args=(signer, path), daemon=True).start()
    while not path.exists():
        threading.Event().wait(0.01)
    with closing(SigningAgent(path=path)) as one, closing(SigningAgent(path=path)) as other:
        assert one.public_key == signer.public_key
        VerifyKey(one.public_key).verify(head(3), one.sign(head(3)))
        with pytest.raises(CustodyError, match="has signed 3 entries"):
            other.sign(head(2))
        one.renew()  # it stays as it is: what it has signed it has signed
        with pytest.raises(CustodyError, match="has signed 3 entries"):
            one.sign(head(2))
    assert path.stat().st_mode & 0o777 == 0o660


MEMORY = """
import os, sys
found = 0
needles = [bytes.fromhex(each) for each in sys.argv[2:]]
for line in open(f"/proc/{sys.argv[1]}/maps"):
    places, mode = line.split()[:2]
    start, stop = (int(each, 16) for each in places.split("-"))
    if "rw" in mode and stop - start < 1 << 30:
        try:
            with open(f"/proc/{sys.argv[1]}/mem", "rb") as memory:
                memory.seek(start)
                data = memory.read(stop - start)
        except OSError:
            continue
        print(*[k for k, needle in enumerate(needles) if needle in data])
"""
"""Names which of some secrets stand in the memory of a process."""


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs the right to read another's memory")
def test_the_process_that_strangers_talk_to_has_no_key_of_any_role(tmp_path: Path) -> None:
    pytest.importorskip("uvicorn")
    shard = tmp_path / "now"
    create_shard(shard, ORIGIN, int(time.time()))
    with open_shard(shard) as opened:
        vault = opened.registrar.vault
        purposes = [purpose for purpose in vault.purposes if vault.role_file(purpose) is not None]
        secrets = [vault.purpose_key(purpose) for purpose in purposes]
        held = vault.held_purpose_key("meter codes 0")
    assert SIGNING_PURPOSE in purposes
    assert len(purposes) == 5
    assert held is not None
    command = [sys.executable, "-c", "from tellegen.cli import main; main()", "serve", str(shard)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline().startswith("tellegen serves")
            arguments = [str(server.pid), *(secret.hex() for secret in [*secrets, held])]
            seen = subprocess.run(
                [sys.executable, "-c", MEMORY, *arguments], capture_output=True, text=True, check=True, timeout=120
            )
        finally:
            server.terminate()
    assert set(seen.stdout.split()) == {str(len(secrets))}  # of these, what checks codes and nothing else


@pytest.mark.skipif(os.name != "posix", reason="sockets of the file system")
def test_an_intake_is_served_without_the_file_of_its_logs_key(tmp_path: Path) -> None:
    """As where the agent is another user's: once that has read the key, it is nowhere that `serve` could."""
    pytest.importorskip("uvicorn")
    shard, path = tmp_path / "now", tmp_path / "agent.sock"
    create_shard(shard, ORIGIN, int(time.time()))
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2] / "src")}

    def start(*arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", "from tellegen.cli import main; main()", *map(str, arguments)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)

    with start("vault", "signer", shard, "--socket", path) as agent:
        try:
            assert agent.stdout is not None
            assert agent.stdout.readline().startswith("signs heads of ")
            (shard / "vault" / "log.key").unlink()
            with start("serve", shard, "--signer", path) as server:
                assert server.stdout is not None
                assert server.stdout.readline().startswith("tellegen serves ")
                server.terminate()
                assert server.wait(30) == 0
        finally:
            agent.terminate()
    with Journal.open(shard) as journal:
        assert journal.checkpoint.size == len(journal)
