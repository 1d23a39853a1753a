"""Signed notes as others write them, and as others read them."""

import pytest

from tellegen.journal import JournalError, NoteSigner, NoteVerifier

# The worked example of the Go checksum database's note package, an independent implementation.
GO_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
GO_NOTE = (
    GO_TEXT
    + "\n— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)


def test_a_note_signed_by_another_implementation_opens() -> None:
    verifier = NoteVerifier.parse(GO_VKEY)
    assert verifier.open(GO_NOTE) == GO_TEXT
    assert verifier.vkey == GO_VKEY


def test_signatures_of_unknown_keys_are_ignored_and_not_trusted() -> None:
    signer = NoteSigner("example.org/log", bytes(range(32)))
    note = signer.sign("text\n")
    witness = NoteSigner("example.org/witness", bytes(32)).sign("text\n").rpartition("\n\n")[2]
    assert signer.verifier.open(note + witness) == "text\n"
    with pytest.raises(JournalError, match="not signed by"):
        NoteVerifier.parse(GO_VKEY).open(note)


@pytest.mark.parametrize(
    "vkey",
    [
        "",
        "name",
        "name+00000000+AAAA",
        GO_VKEY.replace("c74f20a3", "c74f20a4"),
        GO_VKEY.replace("Peter", "Pieter"),
    ],
)
def test_a_key_with_another_id_is_no_key(vkey: str) -> None:
    with pytest.raises(JournalError):
        NoteVerifier.parse(vkey)


def test_a_changed_text_does_not_open() -> None:
    with pytest.raises(JournalError, match="does not verify"):
        NoteVerifier.parse(GO_VKEY).open(GO_NOTE.replace("answer", "anwser"))


@pytest.mark.parametrize("text", ["no newline", "tab\there\n"])
def test_what_the_format_forbids_is_not_signed(text: str) -> None:
    with pytest.raises(JournalError):
        NoteSigner("example.org/log", bytes(32)).sign(text)
