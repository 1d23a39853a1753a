"""``tellegen vault``: where the keys of a shard lie, by what they are wrapped, and who signs for its log."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated

import typer

from tellegen.cli import app, errors
from tellegen.errors import InputError

vault_app = typer.Typer(
    help="Keys of a shard: where each lies, by what it is wrapped, who signs with it.", no_args_is_help=True
)
app.add_typer(vault_app, name="vault")

Directory = Annotated[Path, typer.Argument(help="Directory of a shard or a run.")]
Only = Annotated[list[str] | None, typer.Option("--only", help="This key alone, by its name in `status`; repeatable.")]
Offline = Annotated[
    Path | None, typer.Option("--authority", help="Folder of the authority's keys, where it is kept off the machine.")
]
_KEY_BYTES = 32


def openness(directory: Path) -> str:
    """Whether keys of a shard lie in clear, in words."""
    from tellegen.privacy.wrapped import is_wrapped

    if is_wrapped(directory / "vault"):
        return "wrapped by a key from outside"
    return "not wrapped: whoever reads its files has its keys (docs/keys.md)"


def say_if_open(directory: Path) -> None:
    """Warn where keys of a shard lie in clear."""
    if (said := openness(directory)).startswith("not"):
        errors.print(f"tellegen: warning: the vault is {said}")


@vault_app.command()
def status(
    directory: Directory,
    authority: Offline = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Which key lies where, and by what it is wrapped; exit 1 where one lies in clear."""
    from tellegen.privacy.wrapped import kept

    found = kept(directory / "vault", authority)
    if as_json:
        rows = [{"name": k.name, "for": k.does, "path": str(k.path), "wrapped_by": k.wrapped_by} for k in found]
        print(json.dumps(rows, indent=2))
    else:
        for each in found:
            print(f"{each.name:10s} {each.wrapped_by:24s} {each.does}")
    raise typer.Exit(1 if any(each.lies_open for each in found) else 0)


@vault_app.command("key")
def make_key(out: Annotated[Path, typer.Argument(help="File to make, for its owner alone.")]) -> None:
    """Make a key that wraps a vault: 32 random bytes in a file."""
    from tellegen.journal.storage import write_secret

    try:
        write_secret(out, os.urandom(_KEY_BYTES))
    except FileExistsError:
        raise InputError(out, "file", "exists; a key is never overwritten") from None
    print(f"{out}: keep it away from the vault; without it nothing in that can be read")


@vault_app.command()
def wrap(
    directory: Directory,
    key: Annotated[str, typer.Option("--key", help="file:PATH, credential:NAME, pkcs11:URI, kms:MODULE:FACTORY:ARG.")],
    only: Only = None,
    authority: Offline = None,
) -> None:
    """Wrap every key of a shard by a key from outside; what is wrapped already is wrapped anew."""
    from tellegen.custody import wrapper_of
    from tellegen.privacy.wrapped import wrap_all

    with _alone(directory):
        wrap_all(
            directory / "vault", wrapper_of(key), only or (), authority, each=lambda name: print(f"{name}: wrapped")
        )
    print(f"from now on every command needs the key: TELLEGEN_VAULT_KEY={key.partition(':')[0]}:...")


@vault_app.command()
def unwrap(directory: Directory, only: Only = None, authority: Offline = None) -> None:
    """Put every key of a shard back in clear."""
    from tellegen.privacy.wrapped import wrap_all

    with _alone(directory):
        wrap_all(directory / "vault", None, only or (), authority, each=lambda name: print(f"{name}: not wrapped"))


@vault_app.command()
def signer(
    directory: Directory,
    socket: Annotated[Path, typer.Option(help="Socket of the file system, for its owner and its group.")],
) -> None:
    """Sign checkpoints of the intake's log for `serve --signer`: a process that has the key, and does nothing else."""
    from tellegen.custody.signer import run

    run(directory, socket)


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Nobody writes to a journal of the shard meanwhile."""
    from tellegen.journal.storage import FILES

    with ExitStack() as held:
        for home in (directory, directory / "market"):
            checkpoints = home / "journal" / "checkpoints"
            if checkpoints.is_file():
                lock = FILES.open(checkpoints, write=True)
                held.callback(lock.close)
                if not lock.lock():
                    raise InputError(directory, "shard", "is written to by another process; end that one first")
        yield
