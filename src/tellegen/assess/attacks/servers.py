"""What is attacked: the intake of a small shard, the same over TLS, and a witness, each in a process of its own."""

from __future__ import annotations

import datetime
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tellegen.errors import TellegenError

_START = "import sys; from tellegen.cli import main; main()"
END_SECONDS_MAX = 60


@contextmanager
def running(*arguments: str, said: list[str] | None = None) -> Iterator[str]:
    """A command of `tellegen` that serves; its address is the last word of the line that names one.

    Parameters
    ----------
    said : whatever it says after that, once it has ended.

    Raises
    ------
    TellegenError : it does not start.
    """
    command = [sys.executable, "-c", _START, *arguments]
    source = str(Path(__file__).parents[3])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([source, os.environ.get("PYTHONPATH", "")])}
    process = subprocess.Popen(  # noqa: S603
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment | {"COLUMNS": "400"}
    )
    line = ""
    try:
        assert process.stdout is not None
        while "://" not in line:
            line = process.stdout.readline()
            if not line:
                raise TellegenError(f"tellegen {arguments[0]} did not start")
        yield line.split()[-1].removesuffix("/add-checkpoint")
    finally:
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=END_SECONDS_MAX)
        if said is not None:
            said += rest.splitlines()


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 that vouches for itself, and its key, as files (PEM)."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = folder / "server.pem", folder / "server.key"
    certificate_file.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    plain, pkcs8 = serialization.NoEncryption(), serialization.PrivateFormat.PKCS8
    key_file.write_bytes(key.private_bytes(serialization.Encoding.PEM, pkcs8, plain))
    return certificate_file, key_file
