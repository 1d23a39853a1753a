"""Witnesses: nobody who trusts one can be shown another history than everybody else who does."""

import hashlib
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from tellegen.errors import InputError
from tellegen.journal import (
    Checkpoint,
    CosignatureVerifier,
    Cosigner,
    Extension,
    Journal,
    JournalError,
    NotCosignedError,
    NoteSigner,
    Witness,
    ask_witness,
    cosigned,
    keep_cosignatures,
    newest,
    strongest,
    tiles,
)
from tellegen.journal.note import SignatureLine, split_note
from tellegen.verify import RefusedError, check_receipt
from tellegen.verify.notes import OperatorKey, SignedHead, WitnessKey

Grow = Callable[..., Journal]
Answer = Any
KEY = hashlib.sha256(b"operator").digest()
NOW = 1_700_000_000

# The example checkpoint of c2sp.org/tlog-cosignature.
SPEC_TEXT = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
SPEC_LINES = (
    "— example.com/behind-the-sofa "
    "Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
    "— witness.example.com/w1 "
    "jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n"
)


@pytest.fixture
def log(grow: Grow, tmp_path: Path) -> Journal:
    return grow(tmp_path / "log", 5)


@pytest.fixture
def witness(log: Journal, tmp_path: Path) -> Witness:
    return made(tmp_path / "witness", log)


def made(folder: Path, log: Journal, name: str = "witness.example/w1") -> Witness:
    Witness.create(folder, name, bytes([len(name)]) * 32)
    return Witness(folder, [log.verifier], lambda: NOW)


def post(witness: Witness) -> Callable[[bytes], tuple[int, str]]:
    """How to reach a witness without a network."""

    def send(request: bytes) -> tuple[int, str]:
        reply = witness.add_checkpoint(request)
        return int(reply.status), reply.text

    return send


def request(log: Journal, old_size: int) -> bytes:
    return str(Extension.of(log, old_size, log.checkpoint)).encode()


def cosign(log: Journal, *witnesses: Witness) -> Checkpoint:
    lines = [ask_witness(log, log.checkpoint, CosignatureVerifier.parse(w.vkey), post(w)) for w in witnesses]
    return keep_cosignatures(log, log.checkpoint, lines)


def test_the_example_of_the_specification_is_read() -> None:
    text, lines = split_note(f"{SPEC_TEXT}\n{SPEC_LINES}")
    assert (text, "".join(map(str, lines))) == (SPEC_TEXT, SPEC_LINES)
    assert int.from_bytes(lines[1].signature[:8], "big") == 1679315147
    assert len(lines[1].signature) == 72


def test_a_cosignature_by_another_implementation_verifies() -> None:
    """By litewitness of filippo.io/torchwood 0.9.0, for a log of this project."""
    vkey = "witness.example/lite+27d4112b+BJ/357zaNZjG9H78Mo3gJobVo8doOe9dE3smVxo8AEq7"
    text = "example.org/shard\n70000\nIfxV/lGkRqoqpMpEoxp7n5koR9h+/pML8PsiM+1txM8=\n"
    signature = (
        "J9QRKwAAAABrA6sqaDCmoWQPDAMa7zEZjL+fdvpfiRZ45yWkCKFB1RY7DapZgOgRspgnc5mnjPIluQ9nNntnTfwpSM/Jn9oQZ6toBg=="
    )
    line = SignatureLine.parse(f"— witness.example/lite {signature}")
    verifier = CosignatureVerifier.parse(vkey)
    assert verifier.vkey == vkey
    assert verifier.time_of(text, line) == 1795402538
    with pytest.raises(JournalError, match="does not verify"):
        verifier.time_of(text.replace("70000", "70001"), line)


def test_a_witness_signs_what_extends_what_it_signed_before(grow: Grow, log: Journal, witness: Witness) -> None:
    verifier = CosignatureVerifier.parse(witness.vkey)
    for old_size, growth in ((0, 0), (5, 4), (9, 300)):
        grow(log, growth)
        reply = witness.add_checkpoint(request(log, old_size))
        assert reply.status == HTTPStatus.OK
        text, _ = split_note(log.checkpoint.note)
        assert verifier.time_of(text, SignatureLine.parse(reply.text[:-1])) == NOW


def test_it_says_what_it_has_to_who_starts_elsewhere(grow: Grow, log: Journal, witness: Witness) -> None:
    witness.add_checkpoint(request(log, 0))
    grow(log, 2)
    for old_size in (0, 3, 6):
        reply = witness.add_checkpoint(request(log, old_size))
        assert (reply.status, reply.text, reply.content_type) == (HTTPStatus.CONFLICT, "5\n", "text/x.tlog.size")


def test_another_history_gets_no_signature(grow: Grow, log: Journal, witness: Witness, tmp_path: Path) -> None:
    """The operator's second history: same size, or longer with any proof it can make."""
    witness.add_checkpoint(request(log, 0))
    second = grow(tmp_path / "second", 5, salt="other")
    assert witness.add_checkpoint(request(second, 0)).status == HTTPStatus.CONFLICT
    assert witness.add_checkpoint(request(second, 5)).status == HTTPStatus.UNPROCESSABLE_ENTITY
    kept = next((tmp_path / "witness").glob("*.contradiction")).read_text()
    assert kept == second.checkpoint.note
    grow(second, 3, salt="other")
    assert witness.add_checkpoint(request(second, 5)).status == HTTPStatus.UNPROCESSABLE_ENTITY
    with pytest.raises(NotCosignedError, match="422"):
        cosign(second, witness)
    assert "witness.example" not in second.checkpoint.note
    with pytest.raises(NotCosignedError, match="two histories"):
        cosign(grow(tmp_path / "third", 5, salt="third"), witness)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (lambda text: text.replace("old 0", "old 00"), HTTPStatus.BAD_REQUEST),
        (lambda text: text.replace("old 0", "old -1"), HTTPStatus.BAD_REQUEST),
        (lambda text: text.replace("old 0", "old 6"), HTTPStatus.BAD_REQUEST),
        (lambda text: text.replace("old 0\n", "old 0\n!!!\n"), HTTPStatus.BAD_REQUEST),
        (lambda text: text.replace("old 0\n", "old 0\n" + 64 * ("A" * 43 + "=\n")), HTTPStatus.BAD_REQUEST),
        (lambda text: text.replace("old 0\n", "old 0\n" + "A" * 43 + "=\n"), HTTPStatus.UNPROCESSABLE_ENTITY),
        (lambda text: text.replace("example.org/feeder\n5", "example.org/feeder\n6"), HTTPStatus.FORBIDDEN),
        (lambda text: text.replace("\nexample.org/feeder\n", "\nexample.org/other\n"), HTTPStatus.NOT_FOUND),
        (lambda text: text[: text.index("\n\n")], HTTPStatus.BAD_REQUEST),
        (lambda text: "", HTTPStatus.BAD_REQUEST),
    ],
)
def test_each_fault_has_the_answer_of_the_specification(
    log: Journal, witness: Witness, change: Callable[[str], str], status: HTTPStatus
) -> None:
    assert witness.add_checkpoint(change(request(log, 0).decode()).encode()).status == status
    assert witness.add_checkpoint(request(log, 0)).status == HTTPStatus.OK


def test_a_checkpoint_by_an_unknown_key_is_forbidden(log: Journal, witness: Witness) -> None:
    forged = Checkpoint.signed_by(NoteSigner(log.verifier.name, bytes(32)), log.checkpoint.size, log.checkpoint.root)
    assert witness.add_checkpoint(f"old 0\n\n{forged.note}".encode()).status == HTTPStatus.FORBIDDEN
    both = log.checkpoint.note + forged.note.rpartition("\n\n")[2]
    assert witness.add_checkpoint(f"old 0\n\n{both}".encode()).status == HTTPStatus.OK


def test_each_line_of_the_logs_key_must_verify(log: Journal, witness: Witness) -> None:
    """A bad one behind a good one is forged by somebody, whoever that is."""
    note = log.checkpoint.note
    line = SignatureLine.parse(note.rpartition("\n\n")[2][:-1])
    bad = SignatureLine(line.name, line.key_id, bytes(64))
    assert witness.add_checkpoint(f"old 0\n\n{note}{bad}".encode()).status == HTTPStatus.FORBIDDEN
    with pytest.raises(JournalError, match="does not verify"):
        log.verifier.open(f"{note}{bad}")
    assert witness.add_checkpoint(request(log, 0)).status == HTTPStatus.OK


def test_lines_that_extend_another_logs_checkpoint_are_signed_with_it(log: Journal, witness: Witness) -> None:
    """Ours has none, and reads none; tlog-checkpoint lets others have them."""
    signer = NoteSigner(log.verifier.name, KEY)
    text = log.checkpoint.note.partition("\n\n")[0] + "\nanything\n"
    reply = witness.add_checkpoint(f"old 0\n\n{signer.sign(text)}".encode())
    assert reply.status == HTTPStatus.OK
    line = SignatureLine.parse(reply.text[:-1])
    assert CosignatureVerifier.parse(witness.vkey).time_of(text, line) == NOW
    with pytest.raises(JournalError, match="not origin, size and root"):
        Checkpoint.parse(signer.sign(text), log.verifier)


def test_two_keys_of_one_log_are_refused(log: Journal, tmp_path: Path) -> None:
    """The witness remembers a log by its name; the later key must not replace the earlier in silence."""
    Witness.create(tmp_path / "w", "witness.example/w1")
    other = NoteSigner(log.verifier.name, bytes(32)).verifier
    with pytest.raises(InputError, match="two keys"):
        Witness(tmp_path / "w", [log.verifier, other], lambda: NOW)
    Witness(tmp_path / "w", [log.verifier, log.verifier], lambda: NOW).close()


def test_a_time_that_no_clock_shows_is_refused_and_a_far_one_is_named(
    log: Journal, tmp_path: Path, tellegen: Callable[..., Answer]
) -> None:
    """Whoever holds a witness's key may sign any time; nobody may be shown a traceback for it."""
    odd = Cosigner("witness.example/odd", bytes(32))
    text, _ = split_note(log.checkpoint.note)
    for time in (1 << 63, (1 << 64) - 1):
        line = odd.cosign(text, time)
        with pytest.raises(JournalError, match=r"above 2\^63-1"):
            odd.verifier.time_of(text, line)
        with pytest.raises(RefusedError, match=r"above 2\^63-1"):
            SignedHead.parse(
                f"{log.checkpoint.note}{line}",
                OperatorKey.parse(log.verifier.vkey),
                [WitnessKey.parse(odd.verifier.vkey)],
            )
    for time in ((1 << 63) - 1, 300_000_000_000, 4_000_000_000):
        note = f"{log.checkpoint.note}{odd.cosign(text, time)}"
        at = Checkpoint(log.verifier.name, log.checkpoint.size, log.checkpoint.root, note)
        (tmp_path / "receipt.txt").write_text(log.receipt(2, at))
        keys = ("--key", log.verifier.vkey, "--witness-key", odd.verifier.vkey)
        (tmp_path / "entry").write_bytes(log.entry_bytes(2))
        told = tellegen("journal", "verify-receipt", tmp_path / "receipt.txt", "--entry", tmp_path / "entry", *keys)
        assert told.status == 0
        assert "which lies in the future" in told.out


def test_it_remembers_before_it_signs(
    log: Journal, witness: Witness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash between the two costs a signature, never the memory of one."""

    def dies(signer: Cosigner, text: str, time: int) -> SignatureLine:
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr(Cosigner, "cosign", dies)
        with pytest.raises(KeyboardInterrupt):
            witness.add_checkpoint(request(log, 0))
    witness.close()
    again = Witness(tmp_path / "witness", [log.verifier], lambda: NOW)
    assert again.add_checkpoint(request(log, 0)).text == "5\n"
    assert again.add_checkpoint(request(log, 5)).status == HTTPStatus.OK


def test_a_witness_without_its_memory_does_not_start(log: Journal, witness: Witness, tmp_path: Path) -> None:
    witness.add_checkpoint(request(log, 0))
    witness.close()
    memory = next((tmp_path / "witness").glob("*.checkpoint"))
    memory.write_text(memory.read_text().replace("5", "4"))
    with pytest.raises(JournalError, match="does not start"):
        Witness(tmp_path / "witness", [log.verifier], lambda: NOW)
    with pytest.raises(InputError, match=r"witness\.key"):
        Witness(tmp_path / "nowhere", [log.verifier], lambda: NOW)
    with pytest.raises(JournalError, match="already"):
        Witness.create(tmp_path / "witness", "witness.example/w2")


def test_one_process_at_a_time_is_the_witness(log: Journal, witness: Witness, tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="another process"):
        Witness(tmp_path / "witness", [log.verifier], lambda: NOW)


def test_receipts_carry_the_cosignatures_of_what_they_are_under(
    grow: Grow, log: Journal, witness: Witness, tmp_path: Path
) -> None:
    """Two levels: operator-final at once, witness-cosigned once witnesses have seen it."""
    key, vkey = log.verifier.vkey, witness.vkey
    entry = log.entry(2).to_bytes()
    assert check_receipt(log.receipt(2), entry, key, [vkey]).level == "operator-final"
    other = made(tmp_path / "w2", log, "witness.example/second")
    cosign(log, witness)
    cosign(log, other)
    proven = check_receipt(log.receipt(2, strongest(log, 2)), entry, key, [vkey, other.vkey])
    assert proven.level == "witness-cosigned"
    assert [(c.witness, c.time) for c in proven.cosignatures] == [
        ("witness.example/w1", NOW),
        ("witness.example/second", NOW),
    ]
    unasked = check_receipt(log.receipt(2, strongest(log, 2)), entry, key)
    assert (unasked.level, len(unasked.strangers)) == ("operator-final", 2)
    grow(log, 1)
    assert check_receipt(log.receipt(2, strongest(log, 2)), entry, key, [vkey]).size == 5
    assert check_receipt(log.receipt(5, strongest(log, 5)), log.entry(5).to_bytes(), key, [vkey]).size == 6
    assert newest(log) == log.checkpoint
    assert tiles.resource(log, "cosigned").decode().count("— witness.example") == 2
    cosign(log, witness)
    assert tiles.resource(log, "checkpoint") == tiles.resource(log, "cosigned")


def test_a_cosignature_holds_for_one_text_one_time_and_one_key(log: Journal, witness: Witness) -> None:
    note = cosign(log, witness).note
    key = OperatorKey.parse(log.verifier.vkey)
    trusted = WitnessKey.parse(witness.vkey)
    assert SignedHead.parse(note, key, [trusted]).cosignatures[0].time == NOW
    text, (own, line) = split_note(note)
    later = SignatureLine(line.name, line.key_id, (NOW + 1).to_bytes(8, "big") + line.signature[8:])
    with pytest.raises(RefusedError, match="does not verify"):
        SignedHead.parse(f"{text}\n{own}{later}", key, [trusted])
    with pytest.raises(RefusedError, match="no signature by the key"):
        SignedHead.parse(f"{text}\n{line}", key, [trusted])
    with pytest.raises(RefusedError, match="one of each key"):
        SignedHead.parse(note + str(line), key, [trusted])
    impostor = Cosigner("witness.example/w1", bytes(32)).cosign(text, NOW)
    assert SignedHead.parse(f"{text}\n{own}{impostor}", key, [trusted]).cosignatures == ()


def test_a_cosigned_file_that_is_no_state_of_the_log_is_named(grow: Grow, log: Journal, witness: Witness) -> None:
    cosign(log, witness)
    path = log.folder / "cosigned"
    whole = path.read_text()
    for damaged in (whole.replace("5", "4"), whole[:-20], "", "\xff"):
        path.write_bytes(damaged.encode("latin-1", errors="ignore"))
        with pytest.raises(JournalError, match="corruption"):
            cosigned(log)
    path.write_text(Checkpoint.signed_by(NoteSigner(log.verifier.name, KEY), 5, bytes(32)).note)
    with pytest.raises(JournalError, match="no state of this log"):
        cosigned(log)


def test_cosignatures_of_an_older_checkpoint_never_replace_newer_ones(
    grow: Grow, log: Journal, witness: Witness
) -> None:
    old = log.checkpoint
    grow(log, 2)
    cosign(log, witness)
    with pytest.raises(JournalError, match="about 7 entries"):
        keep_cosignatures(log, old, [])


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ((200, "— witness.example/w1 AAAAAAAAAAA=\n"), "not a cosignature"),
        ((200, ""), "not a cosignature"),
        ((409, "900\n"), "set back"),
        ((409, "no number\n"), "409"),
        ((500, "sorry\n"), "500: sorry"),
    ],
)
def test_an_answer_that_is_no_cosignature_is_not_kept(
    log: Journal, witness: Witness, answer: tuple[int, str], problem: str
) -> None:
    with pytest.raises(NotCosignedError, match=problem):
        ask_witness(log, log.checkpoint, CosignatureVerifier.parse(witness.vkey), lambda _: answer)
