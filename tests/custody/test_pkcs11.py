"""A wrapping key that never leaves its token, played with SoftHSM where there is one.

SOFTHSM2_MODULE and SOFTHSM2_UTIL say where it is, if not where Debian has it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tellegen.custody import CustodyError, wrapper_of
from tellegen.custody.wrapping import VARIABLE
from tellegen.privacy import Vault
from tellegen.privacy.wrapped import is_wrapped, wrap_all

pkcs11 = pytest.importorskip("pkcs11")
LIBRARY = Path(os.environ.get("SOFTHSM2_MODULE", "/usr/lib/softhsm/libsofthsm2.so"))
UTIL = os.environ.get("SOFTHSM2_UTIL") or shutil.which("softhsm2-util")
PIN = "135790"

pytestmark = pytest.mark.skipif(not (LIBRARY.is_file() and UTIL), reason="there is no SoftHSM")


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A token with one AES key that cannot be taken out; the file of its PIN."""
    folder = tmp_path_factory.mktemp("token")
    (folder / "tokens").mkdir()
    (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder / 'tokens'}\nlog.level = ERROR\n")
    os.environ["SOFTHSM2_CONF"] = str(folder / "softhsm2.conf")
    init = ("--init-token", "--free", "--label", "shard", "--so-pin", "246802", "--pin", PIN, "--module", str(LIBRARY))
    subprocess.run([UTIL or "", *init], check=True, capture_output=True, timeout=60)
    library = pkcs11.lib(str(LIBRARY))
    attributes = {pkcs11.Attribute.EXTRACTABLE: False, pkcs11.Attribute.SENSITIVE: True}
    with library.get_token(token_label="shard").open(rw=True, user_pin=PIN) as session:
        session.generate_key(pkcs11.KeyType.AES, 256, label="vault", store=True, template=attributes)
    (folder / "pin").write_text(PIN + "\n")
    return folder / "pin"


def uri(pin: Path, key: str = "vault") -> str:
    return f"pkcs11:token=shard;object={key}?module-path={LIBRARY}&pin-source=file:{pin}"


def test_a_vault_is_wrapped_by_a_token(token: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Vault.create(tmp_path / "vault", [1]) as vault:
        secret = vault.purpose_key("operator signature")
    wrap_all(tmp_path / "vault", wrapper_of(uri(token)))
    assert is_wrapped(tmp_path / "vault")
    monkeypatch.setenv(VARIABLE, uri(token))
    with Vault.open(tmp_path / "vault") as vault:
        assert vault.role_key("operator signature") == secret


def test_a_token_opens_nothing_for_another_purpose_or_pin(token: Path, tmp_path: Path) -> None:
    wrapped = wrapper_of(uri(token)).wrap(bytes(32), b"log")
    (tmp_path / "pin").write_text("000000\n")
    for wrapper, context in ((uri(token), b"market"), (uri(tmp_path / "pin"), b"log"), (uri(token, "none"), b"log")):
        with pytest.raises(CustodyError, match="the token refuses to decrypt") as raised:
            wrapper_of(wrapper).unwrap(wrapped, context)
        assert PIN not in str(raised.value)


def test_a_library_that_is_none_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "pin").write_text(PIN)
    said = f"pkcs11:token=t;object=k?module-path={tmp_path / 'pin'}&pin-source=file:{tmp_path / 'pin'}"
    with pytest.raises(CustodyError, match="token"):
        wrapper_of(said).wrap(bytes(32), b"log")
