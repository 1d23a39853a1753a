"""``tellegen prices``: what a publisher of wholesale prices does, so that nobody has to believe who passes them on."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from tellegen.cli import app
from tellegen.errors import InputError

prices_app = typer.Typer(help="Wholesale prices: sign them, check who signed them.", no_args_is_help=True)
app.add_typer(prices_app, name="prices")

Name = Annotated[str, typer.Option(help="Publisher and zone or node, such as exchange.example/DE-LU: part of the key.")]
PriceTable = Annotated[Path, typer.Argument(help="CSV of wholesale prices: time,real_time[,day_ahead].")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document.")]


@prices_app.command()
def key(
    name: Annotated[str, typer.Argument(help="Publisher and zone or node, such as exchange.example/DE-LU.")],
    out: Annotated[Path, typer.Argument(help="Makes OUT.key (secret, PEM) and OUT.pub.")] = Path("publisher"),
) -> None:
    """Make a publisher's key; prints the verifier key for the rulebook."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    from tellegen.journal import NoteVerifier
    from tellegen.journal.note import check_key
    from tellegen.journal.storage import write_secret

    check_key(name, bytes(32))
    secret, public = (out.with_name(out.name + suffix) for suffix in (".key", ".pub"))
    for path in (secret, public):
        if path.exists():
            raise InputError(path, "file", "exists; a key is never overwritten")
    made = Ed25519PrivateKey.generate()
    vkey = NoteVerifier(name, made.public_key().public_bytes_raw()).vkey
    write_secret(secret, made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_text(f"{vkey}\n", encoding="utf-8")
    print(f"{secret} (keep it secret), {public}; in the rulebook:\n")
    print(f'[root_prices]\nproof = "signature"\npublisher_key = "{vkey}"')


@prices_app.command()
def sign(
    file: PriceTable,
    name: Name,
    key: Annotated[Path, typer.Option(help="The publisher's private key, as `tellegen prices key` makes it.")],
    out: Annotated[Path | None, typer.Option(help="File to write; without it FILE itself.")] = None,
) -> None:
    """Sign every price of a file, each by itself; again whenever it has grown."""
    from tellegen.journal.note import check_key
    from tellegen.journal.storage import replace_file
    from tellegen.operations.price_signing import signed_table
    from tellegen.registry.private_key import read_private_key

    check_key(name, bytes(32))
    text = signed_table(file, name, read_private_key(key).sign)
    target = file if out is None else out
    replace_file(target, text.encode())  # whoever reads it meanwhile has the one or the other
    print(f"{target}: {text.count(chr(10)) - 1:,} rows signed by {name}")


@prices_app.command()
def check(
    file: PriceTable,
    publisher: Annotated[str, typer.Option(help="Its verifier key (NAME+ID+BASE64), or the file that holds it.")],
    as_json: AsJson = False,
) -> None:
    """Are all prices of a file signed by their publisher? Exit 1 where one is not."""
    from tellegen.journal import JournalError, NoteVerifier
    from tellegen.operations.price_signing import unsigned_lines

    try:
        named = "+" not in publisher and Path(publisher).is_file()
        verifier = NoteVerifier.parse(Path(publisher).read_text("utf-8").strip() if named else publisher)
    except JournalError as error:
        raise InputError("command line", "--publisher", str(error)) from None
    signed, others = unsigned_lines(file, verifier)
    if as_json:
        unsigned = [{"line": line, "market": market} for line, market in others]
        print(json.dumps({"ok": not others, "signed": signed, "unsigned": unsigned}, indent=2))
    else:
        for line, market in others[:10]:
            print(f"{file}: line {line}: the {market} price is not signed by {verifier.name}")
        print(f"{'NO: ' if others else ''}{signed:,} of {signed + len(others):,} prices are signed by {verifier.name}")
    sys.exit(1 if others else 0)
