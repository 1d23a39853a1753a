"""What the product is made of is known and free, and a release can be checked by whoever trusts nobody."""

from __future__ import annotations

import os
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

import pytest

from supply.bill import bill
from supply.licences import is_free, main, objection
from supply.parts import PROJECT, closure, locked
from supply.release import NAMESPACE, build, sign, write_sums


def test_everything_in_the_lock_is_free(capsys: pytest.CaptureFixture[str]) -> None:
    assert main() == 0, capsys.readouterr().err


@pytest.mark.parametrize(
    ("expression", "free"),
    [
        ("MIT", True),
        ("mit", True),
        ("Apache-2.0 OR BSD-3-Clause", True),
        ("BSD-2-Clause AND Apache-2.0 WITH LLVM-exception", True),
        ("EPL-2.0 OR BSD-3-Clause", True),
        ("GPL-3.0-or-later", False),
        ("MIT AND AGPL-3.0-only", False),
        ("BUSL-1.1", False),
        ("Other/Proprietary License", False),
        ("nothing", False),
    ],
)
def test_a_licence_is_free_if_one_of_its_choices_is(expression: str, free: bool) -> None:
    assert is_free(expression) is free


def _installed(folder: Path, licence: str, text: str) -> None:
    about = folder / "made_up-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(
        f"Metadata-Version: 2.4\nName: made-up\nVersion: 1.0\nLicense-Expression: {licence}\n"
    )
    (about / "LICENSE").write_text(text)
    (about / "RECORD").write_text("made_up-1.0.dist-info/LICENSE,,\n")


def test_a_package_that_calls_itself_free_and_is_not_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _installed(tmp_path, "MIT", "Business Source License 1.1\n\nParameters\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert objection("made-up") == "LICENSE is headed 'Business Source'"


def test_a_package_under_a_licence_that_reaches_further_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _installed(tmp_path, "GPL-3.0-only", "")
    monkeypatch.syspath_prepend(tmp_path)
    assert objection("made-up") == "its metadata says 'GPL-3.0-only'"


def test_the_bill_names_all_that_is_needed_with_versions_of_the_lock() -> None:
    found, lock = bill(), locked()
    names = {part["name"]: part for part in found["components"]}
    assert set(names) == set(closure()) - {"tellegen"}
    assert {"numpy", "cryptography", "numba", "uvicorn"} <= set(names)
    for name, part in names.items():
        assert part["version"] == metadata.version(name) in lock[name]
        assert part["externalReferences"], name
    assert bill() == found


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A clone of the project, as a stranger has it."""
    if not (PROJECT / ".git").exists():
        pytest.skip("no repository: a release is built from a commit")
    clone = tmp_path / "elsewhere"
    subprocess.run(["git", "clone", "--quiet", "--depth=1", PROJECT.as_uri(), str(clone)], check=True)
    return clone


def test_a_commit_gives_the_same_bytes_on_another_machine(project: Path, tmp_path: Path) -> None:
    made = []
    for name, umask in ("here", 0o022), ("there", 0o077):
        folder = tmp_path / name
        shutil.copytree(project, folder / "checkout")
        for file in (folder / "checkout" / "src").rglob("*"):
            os.utime(file, (1, 1) if name == "there" else None)
            if name == "there":
                file.chmod(0o700 if file.is_dir() else 0o600)
        before = os.umask(umask)
        try:
            made.append(build(folder / "dist", project=folder / "checkout"))
        finally:
            os.umask(before)
    assert [file.name for file in made[0]] == [file.name for file in made[1]]
    assert [file.read_bytes() for file in made[0]] == [file.read_bytes() for file in made[1]]


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs ssh-keygen, of OpenSSH")
def test_a_release_is_signed_and_a_changed_one_is_found(tmp_path: Path) -> None:
    key, wheel = tmp_path / "key", tmp_path / "tellegen-1.whl"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(key)], check=True)
    trusted = tmp_path / "release_signers"
    trusted.write_text(f"release@tellegen {key.with_suffix('.pub').read_text()}")
    wheel.write_bytes(b"a wheel")
    sums = write_sums(tmp_path, [wheel])
    signature = sign(sums, key)

    def verifies(namespace: str = NAMESPACE) -> bool:
        asked = [
            "ssh-keygen",
            "-Y",
            "verify",
            "-f",
            trusted,
            "-I",
            "release@tellegen",
            "-n",
            namespace,
            "-s",
            signature,
        ]
        return subprocess.run(asked, input=sums.read_bytes(), capture_output=True, check=False).returncode == 0

    assert verifies()
    assert not verifies("git")
    sums.write_text(sums.read_text().replace("tellegen-1", "tellegen-2"))
    assert not verifies()
