"""Keys from outside: each opens what it wrapped, for what it wrapped it, and nothing else; no message holds a key."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tellegen.custody import CustodyError, FileKey, SecretFile, Wrapper, wrapper_for, wrapper_of
from tellegen.custody.wrapping import VARIABLE
from tellegen.privacy import Vault, VaultError
from tellegen.privacy.keystore import read_wrapping
from tellegen.privacy.wrapped import is_wrapped, kept, wrap_all
from tellegen.records import OPERATOR

SECRET, KEY = bytes(range(32)), bytes(range(100, 132))


def key_file(folder: Path, key: bytes = KEY, name: str = "key") -> Path:
    path = folder / name
    path.write_bytes(key)
    path.chmod(0o600)
    return path


def test_what_is_wrapped_opens_under_its_key_for_its_purpose_alone() -> None:
    wrapped = FileKey(KEY).wrap(SECRET, b"log")
    assert SECRET not in wrapped
    assert FileKey(KEY).unwrap(wrapped, b"log") == SECRET
    for key, data, context in (
        (SECRET, wrapped, b"log"),
        (KEY, wrapped, b"market"),
        (KEY, wrapped[:-1] + b"x", b"log"),
        (KEY, b"", b"log"),
    ):
        with pytest.raises(CustodyError, match="does not open it") as raised:
            FileKey(key).unwrap(data, context)
        assert KEY.hex() not in str(raised.value)
    assert KEY.hex() not in repr(FileKey(KEY))


def test_a_key_comes_from_a_file_or_from_the_service_manager(tmp_path: Path) -> None:
    path = key_file(tmp_path)
    wrapped = wrapper_of(f"file:{path}").wrap(SECRET, b"c")
    given = {"CREDENTIALS_DIRECTORY": str(tmp_path), VARIABLE: "credential:key", f"{VARIABLE}_LOG": "credential:none"}
    assert wrapper_for("keys", "file", given).unwrap(wrapped, b"c") == SECRET
    with pytest.raises(CustodyError, match="cannot be read"):
        wrapper_for("log", "file", given)  # its own key comes before that of all
    with pytest.raises(CustodyError, match="TELLEGEN_VAULT_KEY"):
        wrapper_for("keys", "file", {})


@pytest.mark.skipif(os.name != "posix", reason="modes of files")
def test_a_key_that_others_may_read_is_not_used(tmp_path: Path) -> None:
    path = key_file(tmp_path)
    path.chmod(0o640)
    with pytest.raises(CustodyError, match="chmod 600"):
        FileKey.read(path)


@pytest.mark.parametrize(
    "said",
    ["", "file:", "key", "kms:json", "kms:no_such_module:make:", "kms:json:no:", "kms:builtins:int:7", "pkcs11:"],
)
def test_what_names_no_key_is_one_line(said: str) -> None:
    with pytest.raises(CustodyError) as raised:
        wrapper_of(said, {})
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("said", [KEY.hex(), f"kms:json:loads:{KEY.hex()}", f"pkcs11:token=t;pin-value={KEY.hex()}"])
def test_a_key_that_stands_where_its_place_belongs_is_not_repeated(said: str) -> None:
    with pytest.raises(CustodyError) as raised:
        wrapper_of(said, {})
    assert KEY.hex() not in str(raised.value)


def test_a_key_of_another_user_is_not_in_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent alone may read the key of the log; whoever seals rows says what it can see."""
    with Vault.create(tmp_path, [1]) as vault:
        vault.purpose_key("operator signature")
    wrap_all(tmp_path, FileKey(KEY), only=["keys"])
    monkeypatch.setattr(os, "access", lambda path, mode: path.name != "log.key")
    assert {each.name: each.wrapped_by for each in kept(tmp_path)}["log"] == "not to be read by you"
    assert is_wrapped(tmp_path)


def test_a_service_of_keys_is_three_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/keys.md shows one; whatever has a name, wrap and unwrap will do."""

    class Service:
        name = "service key 7"

        def wrap(self, secret: bytes, context: bytes) -> bytes:
            return FileKey(KEY).wrap(secret, context)

        def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
            return FileKey(KEY).unwrap(wrapped, context)

    module = ModuleType("some_service")
    module.made = lambda argument: Service()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "some_service", module)
    wrapper = wrapper_of("kms:some_service:made:keys/7:1")
    assert isinstance(wrapper, Wrapper)
    assert wrapper.unwrap(wrapper.wrap(SECRET, b"c"), b"c") == SECRET


@pytest.mark.skipif(os.name != "posix", reason="modes of files")
def test_a_secret_is_its_owners_and_says_for_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.umask(0)
    try:
        file = SecretFile(tmp_path / "new" / "log.key", "operator signature")
        file.make(SECRET)
    finally:
        os.umask(before)
    assert [(each.stat().st_mode & 0o777) for each in (file.path, file.path.parent)] == [0o600, 0o700]
    assert file.read() == SECRET
    with pytest.raises(CustodyError, match="never overwritten"):
        file.make(SECRET)
    with pytest.raises(CustodyError, match="not the key of 'registrar'"):
        SecretFile(file.path, "registrar").read()
    file.wrap(FileKey(KEY))
    assert file.wrapped_by() == "file"
    assert SECRET.hex() not in file.path.read_text()
    monkeypatch.setenv(VARIABLE, f"file:{key_file(tmp_path)}")
    assert file.read() == SECRET
    renamed = SecretFile(tmp_path / "market.key", "market signing")
    renamed.path.write_text(file.path.read_text().replace("operator signature", "market signing"))
    renamed.path.chmod(0o600)
    with pytest.raises(CustodyError, match="does not open it"):
        renamed.read()
    assert file.path.stat().st_mode & 0o777 == 0o600


def test_a_wrapped_vault_shows_no_secret_and_opens_under_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "vault"
    with Vault.create(path, [1, 2]) as vault:
        secrets = [vault.purpose_key("snapshot digests"), vault.purpose_key("operator signature")]
        secrets += [vault._keys.secret(customer) for customer in (OPERATOR, 1, 2)]
        vault.close_epoch(vault._epoch_at(1000)[0])
    assert not is_wrapped(path)
    wrap_all(path, wrapper_of(f"file:{key_file(tmp_path)}"))
    stored = b"".join(file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file())
    assert not [secret for secret in secrets if secret in stored]
    assert is_wrapped(path)
    assert {each.wrapped_by for each in kept(path)} == {"file", "kept elsewhere"}
    with pytest.raises(VaultError, match="is wrapped by 'file'; say in TELLEGEN_VAULT_KEY"):
        Vault.open(path)
    monkeypatch.setenv(VARIABLE, f"file:{key_file(tmp_path, SECRET, 'other')}")
    with pytest.raises(VaultError, match="does not open it"):
        Vault.open(path)
    monkeypatch.setenv(VARIABLE, f"file:{tmp_path / 'key'}")
    with Vault.open(path) as vault:
        assert [vault.purpose_key("snapshot digests"), vault.role_key("operator signature")] == secrets[:2]
        assert [vault._keys.secret(customer) for customer in (OPERATOR, 1, 2)] == secrets[2:]
        assert [epoch.closed for epoch in vault.epochs] == [True]
        vault.enrol([3])
        vault.destroy_epoch(1)
        vault.erase(1)
    wrap_all(path, wrapper_of(f"file:{tmp_path / 'other'}"))  # by another key, afresh
    monkeypatch.setenv(VARIABLE, f"file:{tmp_path / 'other'}")
    with Vault.open(path) as vault:
        assert (vault.customers, vault.erased) == ([0, 2, 3], [1])
    wrap_all(path, None)
    monkeypatch.delenv(VARIABLE)
    with Vault.open(path) as vault:
        assert vault._keys.secret(2) == secrets[4]


def test_what_is_made_where_a_key_is_named_is_wrapped_from_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, f"file:{key_file(tmp_path)}")
    with Vault.create(tmp_path / "vault", [1]) as vault:
        vault.purpose_key("operator signature")
    assert is_wrapped(tmp_path / "vault")
    assert read_wrapping(tmp_path / "vault" / "keys.sqlite") == "file"


def test_a_secret_moved_to_another_customer_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sqlite3
    from zlib import crc32

    monkeypatch.setenv(VARIABLE, f"file:{key_file(tmp_path)}")
    Vault.create(tmp_path / "vault", [1, 2]).close()
    database = sqlite3.connect(tmp_path / "vault" / "keys.sqlite")
    (secret,) = database.execute("SELECT secret FROM secret WHERE customer = 1").fetchone()
    database.execute("UPDATE secret SET secret = ?, checksum = ? WHERE customer = 2", (secret, crc32(secret, 2)))
    database.commit()
    database.close()
    with pytest.raises(VaultError, match="key of customer 2 is not as it was written"):
        Vault.open(tmp_path / "vault")
