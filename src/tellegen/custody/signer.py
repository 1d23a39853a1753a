"""The program of a signing agent: reads the key of a shard's log, and signs heads of that log until nobody asks."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tellegen.custody.roles import ROLES
from tellegen.custody.secret_file import SecretFile
from tellegen.custody.signing_agent import HeadSigner, SigningAgent, answer, refuse, serve_socket, shield
from tellegen.custody.wrapping import VARIABLE, CustodyError
from tellegen.errors import TellegenError
from tellegen.journal.files import read_verifier
from tellegen.journal.storage import FILES

LOG_PURPOSE = "operator signature"


def log_signer(directory: Path) -> HeadSigner:
    """The signer of the intake's log of a shard, with the key that lies in its vault.

    Raises
    ------
    CustodyError : the key cannot be had, or is not that of the log. InputError : there is no shard.
    """
    verifier = read_verifier(FILES, directory / "journal")
    signer = HeadSigner(verifier.name, SecretFile(ROLES[LOG_PURPOSE].path(directory / "vault"), LOG_PURPOSE).read())
    if signer.public_key != verifier.public_key:
        raise CustodyError(f"{directory}: the key in its vault is not that of operator.pub")
    return signer


def agent_of(directory: Path, path: Path | None) -> SigningAgent:
    """Somebody to ask for signatures of a shard's log: the agent at a socket, or one that is started here.

    What says where the key is that opens the key of the log is then of no use here: only agents are told.

    Raises
    ------
    CustodyError : it does not answer, or says why not.
    """
    read_verifier(FILES, directory / "journal")  # where there is no shard, that is what is wrong
    if path is not None:
        return SigningAgent(path=path)
    command = [sys.executable, "-P", "-m", "tellegen.custody.signer", str(directory)]
    made = SigningAgent(command, environment=os.environ)
    os.environ.pop(f"{VARIABLE}_LOG", None)
    return made


def run(directory: Path, path: Path) -> None:
    """Answer at a socket until the process is ended.

    Raises
    ------
    TellegenError : as in `log_signer`; the socket cannot be had.
    """
    shield()
    signer = log_signer(directory)
    print(f"signs heads of {directory} at {path}", flush=True)
    serve_socket(signer, path)


def _main() -> None:
    shield()
    try:
        signer = log_signer(Path(sys.argv[1]))
    except TellegenError as error:
        refuse(str(error), sys.stdout.buffer)
        sys.exit(2)
    answer(signer, sys.stdin.buffer, sys.stdout.buffer)


if __name__ == "__main__":
    _main()
