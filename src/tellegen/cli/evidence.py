"""``tellegen journal verify-receipt`` and ``compare``: what you were handed, checked without the operator."""

from __future__ import annotations

import base64
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from tellegen.cli.journal import AsJson, journal_app, seen_text, time_text
from tellegen.errors import InputError, printable

if TYPE_CHECKING:
    from tellegen.records import Successions
    from tellegen.verify import Comparison, ProvenEntry, Shown
    from tellegen.verify.tiles import Fetch

Key = Annotated[str | None, typer.Option(help="The operator's public key as you know it (a vkey text).")]
WitnessKeys = Annotated[list[str] | None, typer.Option("--witness-key", help="Verifier key of a witness you trust.")]
_FILE_BYTES_MAX = 1 << 24


@journal_app.command("verify-receipt")
def verify_receipt(
    file: Annotated[
        Path, typer.Argument(help="A receipt: text, or the JSON of an answer, `journal prove` or `receipt`.")
    ],
    key: Key = None,
    witness_key: WitnessKeys = None,
    entry: Annotated[Path | None, typer.Option(help="File with the entry, for a receipt that is text alone.")] = None,
    as_json: AsJson = False,
) -> None:
    """Check a receipt, or every receipt of an answer, offline: what it proves, and who stands for it."""
    from tellegen.foreign.regular import regular_bytes
    from tellegen.verify import RefusedError

    held = _Given.read_all(file)
    vkey = _vkey(key, file, held[0])
    witnesses = [_witness_key(text) for text in witness_key or []]
    content = None if entry is None else regular_bytes(entry, _FILE_BYTES_MAX).removesuffix(b"\n")
    documents: list[dict[str, object]] = []
    for given in held:
        try:
            proven, row = _proven(given, content, file, vkey, witnesses)
        except RefusedError as error:
            print(json.dumps({"ok": False, "problem": str(error)}, indent=2) if as_json else f"NO: {error}")
            sys.exit(1)
        documents.append(_proven_document(proven, row, pinned=key is not None))
        if not as_json:
            _print_proven(proven, row, vkey, pinned=key is not None)
    if as_json:
        print(json.dumps(documents[0] if len(documents) == 1 else {"ok": True, "receipts": documents}, indent=2))


def _proven(
    given: _Given, content: bytes | None, file: Path, vkey: str, witnesses: list[str]
) -> tuple[ProvenEntry, int | None]:
    from tellegen.verify import check_receipt, check_row_receipt, entry_within

    if given.row is not None:
        proven_row = check_row_receipt(given.text, given.row, given.salt, vkey, witnesses)
        return proven_row.entry, proven_row.row
    entry = next((e for e in (content, given.entry, entry_within(given.text)) if e is not None), None)
    if entry is None:
        raise InputError(file, "entry", "is not in the receipt; give --entry FILE with the log entry's bytes")
    return check_receipt(given.text, entry, vkey, witnesses), None


@journal_app.command()
def compare(
    one: Annotated[Path, typer.Argument(help="A receipt or a checkpoint (file), or a directory of a run or export.")],
    other: Annotated[Path, typer.Argument(help="Another of the same log.")],
    key: Key = None,
    log: Annotated[str | None, typer.Option(help="The log today: URL, export, or directory of a run.")] = None,
    proof: Annotated[Path | None, typer.Option(help="Consistency proof, as `journal prove --from` prints it.")] = None,
    as_json: AsJson = False,
) -> None:
    """Were we shown one history? Exit 1 where two receipts or checkpoints prove that we were not."""
    from tellegen.verify import Verdict, compare_by_proof, compare_in_log
    from tellegen.verify import compare as compare_shown

    pair = [_Given.read(one), _Given.read(other)]
    names = [given.key.partition("+")[0] for given in pair if given.key is not None]
    if key is None and len(names) == 2 and names[0] == names[1] and pair[0].key != pair[1].key:
        _compare_two_keys(pair, (one, other), as_json)
    succession = next((k for k in (0, 1) if pair[k].succession() is not None), None)
    if succession is not None and pair[0].key != pair[1].key:
        _compare_with_successor(pair[1 - succession], (one, other)[1 - succession], pair[succession], key, log, as_json)
    vkey = key or next((given.key for given in pair if given.key is not None), None)
    vkey = _vkey(vkey, one, pair[0])
    first, second = (_shown(given, path, vkey) for given, path in zip(pair, (one, other), strict=True))
    finding = compare_shown(first, second)
    if proof is not None:
        finding = compare_by_proof(first, second, _read_text(proof), vkey)
    if log is not None and finding.verdict is Verdict.UNDECIDED:
        finding = compare_in_log(first, second, _fetch(log), vkey)
    lie = finding.verdict is Verdict.TWO_HISTORIES
    if as_json:
        print(json.dumps(_comparison_document(finding, (first, second)), indent=2))
    else:
        for item in (first, second):
            print(f"{item.name}: {item.head.size:,} entries, root {base64.b64encode(item.head.root).decode()}")
        print(f"{'TWO HISTORIES' if lie else finding.verdict}: {finding.detail}")
        if lie:
            print("both are signed by the operator's key: keep them, they prove it to anybody")
        elif finding.verdict is Verdict.UNDECIDED:
            print("give --log (URL or directory of the log) or --proof (`tellegen journal prove DIR --from SIZE`)")
    sys.exit(1 if lie else 0)


def _compare_with_successor(
    old: _Given, path: Path, new: _Given, key: str | None, log: str | None, as_json: bool
) -> NoReturn:
    """What was shown of a log, and a receipt for what its successor says of it."""
    from tellegen.verify import Verdict, check_row_receipt
    from tellegen.verify.succession import compare_with_successor

    vkey, table = _vkey(key, path, old), new.succession()
    new_key = _vkey(None, path, new)
    assert table is not None
    assert new.row is not None
    check_row_receipt(new.text, new.row, new.salt, new_key)
    shown = _shown(old, path, vkey)
    finding = compare_with_successor(shown, vkey, table, new_key, None if log is None else _fetch(log))
    lie = finding.verdict is Verdict.TWO_HISTORIES
    if as_json:
        print(json.dumps({"ok": not lie, "verdict": finding.verdict, "detail": finding.detail}, indent=2))
    else:
        print(f"{'TWO HISTORIES' if lie else finding.verdict}: {printable(finding.detail)}")
        if finding.verdict is Verdict.UNDECIDED and shown.head.size <= table.size[0]:
            print("give --log with the successor's log (URL or directory): it begins with what it took up")
    sys.exit({Verdict.CONSISTENT: 0, Verdict.UNDECIDED: 2}.get(finding.verdict, 1))


def _compare_two_keys(pair: list[_Given], paths: tuple[Path, Path], as_json: bool) -> NoReturn:
    """Two logs of one name, each under the key that came with it."""
    from tellegen.verify import two_of_one_name

    keys = [_vkey(None, path, given) for given, path in zip(pair, paths, strict=True)]
    shown = [_shown(given, path, vkey) for given, path, vkey in zip(pair, paths, keys, strict=True)]
    finding = two_of_one_name((shown[0], keys[0]), (shown[1], keys[1]))
    if as_json:
        print(json.dumps(_comparison_document(finding, (shown[0], shown[1])), indent=2))
    else:
        print(f"{finding.verdict.upper()}: {printable(finding.detail)}")
    sys.exit(1)


@dataclass(frozen=True, slots=True)
class _Given:
    """A receipt or checkpoint as somebody handed it over, and what came with it."""

    text: str
    key: str | None = None
    entry: bytes | None = None
    row: bytes | None = None
    salt: bytes = b""

    def succession(self) -> Successions | None:
        """What a successor says of the log before it, where that is what the receipt is for; nothing is verified."""
        from tellegen.records import Header, RecordError, Successions
        from tellegen.verify import RefusedError, entry_within

        try:
            entry = entry_within(self.text) if self.row is not None else None
            if entry is None or self.row is None or Header.from_bytes(entry).kind != Successions.kind:
                return None
            return Successions.from_bytes(self.row)
        except (RecordError, RefusedError):
            return None

    @classmethod
    def read_all(cls, path: Path) -> list[_Given]:
        """The receipts of an answer (JSON with `receipts`, or `batches` of them), or the one that `read` gives."""
        document = None if path.is_dir() else _document(_read_text(path), path)
        batches = None if document is None else document.get("batches", [document])
        listed = batches if isinstance(batches, list) else []
        each = [batch.get("receipts") for batch in listed if isinstance(batch, dict)]
        receipts = [receipt for some in each if isinstance(some, list) for receipt in some]
        if not receipts:
            return [cls.read(path)]
        return [cls(_text(receipt, "receipts", path)) for receipt in receipts]

    @classmethod
    def read(cls, path: Path) -> _Given:
        """From a text, a JSON document, or the directory of a run or an export."""
        if path.is_dir():
            folder = path / "journal" if (path / "journal").is_dir() else path
            return cls(_read_text(folder / "checkpoint"))
        text = _read_text(path)
        document = _document(text, path)
        if document is None:
            return cls(text)
        names = ("receipt", "key", "entry", "row_hex", "salt_hex")
        said = {name: _text(document[name], name, path) for name in names if document.get(name) is not None}
        if "receipt" not in said:
            raise InputError(path, "JSON", "is not that of a receipt: receipt, entry, key")
        try:
            row, salt = (bytes.fromhex(said.get(name, "")) for name in ("row_hex", "salt_hex"))
        except ValueError:
            raise InputError(path, "row_hex, salt_hex", "are not hexadecimal digits") from None
        entry = said["entry"].encode() if "entry" in said else None
        return cls(said["receipt"], said.get("key"), entry, row or None, salt)


def receipts_in(path: Path) -> list[str]:
    """The receipts in a file: one as text or in a JSON document, or those of an intake's answer.

    Raises
    ------
    InputError : there is none.
    """
    return [given.text for given in _Given.read_all(path)]


def _document(text: str, path: Path) -> dict[str, object] | None:
    """A JSON object, or None where the text is none."""
    from tellegen.foreign.documents import json_document

    document: object = json_document(text, path, "JSON") if text.startswith("{") else None
    return document if isinstance(document, dict) else None


def _text(value: object, name: str, path: Path) -> str:
    """A text of a document that can be written as UTF-8; half a pair of surrogates cannot."""
    try:
        if isinstance(value, str) and value.encode() is not None:
            return value
    except UnicodeEncodeError:
        pass
    raise InputError(path, f"JSON, {name}", "is no text; it is not that of a receipt: receipt, entry, key")


def _read_text(path: Path) -> str:
    from tellegen.foreign.regular import regular_bytes

    try:
        return regular_bytes(path, _FILE_BYTES_MAX).decode()
    except UnicodeDecodeError:
        raise InputError(path, "file", "is not text; give a receipt or a checkpoint") from None


def _vkey(key: str | None, path: Path, given: _Given) -> str:
    from tellegen.verify.notes import OperatorKey
    from tellegen.verify.report import RefusedError

    vkey = key or given.key
    if vkey is None:
        raise InputError(path, "key", "is not in the file; give --key with the operator's public key")
    try:
        OperatorKey.parse(vkey)
    except RefusedError as error:
        raise InputError("--key" if key else path, "key", str(error)) from None
    return vkey


def _witness_key(text: str) -> str:
    from tellegen.verify.notes import WitnessKey
    from tellegen.verify.report import RefusedError

    try:
        WitnessKey.parse(text)
    except RefusedError as error:
        raise InputError("command line", "--witness-key", str(error)) from None
    return text


def _shown(given: _Given, path: Path, vkey: str) -> Shown:
    from tellegen.verify import Shown

    return Shown.of(given.text, vkey, name=str(path), entry=given.entry)


def _fetch(place: str) -> Fetch:
    """Resources of a log: at a URL, in an export, or made from a run's journal."""
    from tellegen.journal import Journal, tiles
    from tellegen.verify import RefusedError, fetch_from

    if not (Path(place) / "journal").is_dir():
        return fetch_from(place)
    journal: Journal = Journal.open(place)

    def fetch(path: str) -> bytes:
        try:
            return tiles.resource(journal, path)
        except tiles.NotFoundError as error:
            raise RefusedError(str(error)) from None

    return fetch


def _proven_document(proven: ProvenEntry, row: int | None, *, pinned: bool) -> dict[str, object]:
    return {
        "ok": True,
        "level": proven.level,
        "index": proven.index,
        "size": proven.size,
        "row": row,
        "entry": asdict(proven.header),
        "key_pinned": pinned,
        "cosignatures": [asdict(cosignature) for cosignature in proven.cosignatures],
        "unknown_signatures": list(proven.strangers),
    }


def _print_proven(proven: ProvenEntry, row: int | None, vkey: str, *, pinned: bool) -> None:
    header = proven.header
    what = f"entry {proven.index}" if row is None else f"row {row} of entry {proven.index}"
    print(f"{what} is on record in {printable(vkey.partition('+')[0])}, which had {proven.size:,} entries")
    said = printable(f"{header.kind}{f' {header.name}' if header.name else ''}")
    print(f"  entry      {said}, {header.rows:,} rows, from {printable(header.source)}, {time_text(header.known_at)}")
    print(f"  level      {proven.level}")
    for cosignature in proven.cosignatures:
        print(f"             by {printable(cosignature.witness)} at {seen_text(cosignature.time)}")
    for name in proven.strangers:
        print(f"             not counted: {printable(name)}, whose key was not given")
    print(f"  key        {'the one you gave' if pinned else 'beside the receipt; compare it with the published one'}")


def _comparison_document(finding: Comparison, shown: tuple[Shown, Shown]) -> dict[str, object]:
    heads = [{"name": s.name, "size": s.head.size, "root": base64.b64encode(s.head.root).decode()} for s in shown]
    lie = finding.verdict.startswith("two ")
    return {"ok": not lie, "verdict": finding.verdict, "detail": finding.detail, "heads": heads}
