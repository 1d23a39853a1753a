"""`python -m supply.release --key FILE`: what is handed on, so that a stranger can check it.

Into a directory: the wheel and the source archive, the bill of materials, `SHA256SUMS` of these three, and its
signature by an SSH key (`SHA256SUMS.sig`). The wheel and the archive of a commit are the same bytes wherever they
are built, so anybody can build them again and compare.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

from supply.bill import bill
from supply.parts import PROJECT

NAMESPACE = "tellegen-release"
"""What the signature is for: one made for anything else is none."""

SUMS = "SHA256SUMS"


def build(out: Path, *, project: Path = PROJECT) -> list[Path]:
    """The wheel and the source archive of a project's folder, built offline by what is installed."""
    environment = os.environ | {"SOURCE_DATE_EPOCH": _commit_time(project)}
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(out.resolve())],
        cwd=project, env=environment, check=True, capture_output=True,
    )  # fmt: skip
    return sorted([*out.glob("*.whl"), *out.glob("*.tar.gz")])


def write_sums(out: Path, files: list[Path]) -> Path:
    """`SHA256SUMS` of files in a directory, as `sha256sum --check` reads it."""
    lines = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in sorted(files)]
    sums = out / SUMS
    sums.write_text("".join(lines), encoding="utf-8")
    return sums


def sign(sums: Path, key: Path) -> Path:
    """The signature of a file by an SSH key, beside it; its passphrase or token is asked for by `ssh-keygen`."""
    subprocess.run(["ssh-keygen", "-Y", "sign", "-n", NAMESPACE, "-f", str(key), str(sums)], check=True)
    return sums.with_name(f"{sums.name}.sig")


def _commit_time(project: Path) -> str:
    """When the newest commit was made, seconds since 1970."""
    shown = subprocess.run(
        ["git", "log", "-1", "--format=%ct"], cwd=project, check=True, capture_output=True, text=True
    )
    return shown.stdout.strip()


def _changed(project: Path) -> str:
    """Names of files that differ from the newest commit."""
    shown = subprocess.run(["git", "status", "--porcelain"], cwd=project, check=True, capture_output=True, text=True)
    return shown.stdout.strip()


def main() -> int:
    """Build, list, sum and sign."""
    parser = argparse.ArgumentParser(prog="supply.release", description=__doc__)
    parser.add_argument("--key", type=Path, help="SSH private key (or public key of an agent) that signs")
    parser.add_argument("--out", type=Path, default=PROJECT / "dist", help="an empty directory, or one to be made")
    asked = parser.parse_args()
    if _changed(PROJECT):
        print("release: files differ from the newest commit; commit or put them away first", file=sys.stderr)
        return 2
    asked.out.mkdir(parents=True, exist_ok=True)
    if any(asked.out.iterdir()):
        print(f"release: {asked.out} is not empty; name another directory", file=sys.stderr)
        return 2
    files = build(asked.out)
    materials = asked.out / "bill-of-materials.cdx.json"
    materials.write_text(json.dumps(bill(), indent=1) + "\n", encoding="utf-8")
    sums = write_sums(asked.out, [*files, materials])
    if asked.key is None:
        print(f"release: {asked.out} is NOT signed; give --key (make release KEY=FILE)", file=sys.stderr)
    else:
        sign(sums, asked.key)
    print(sums.read_text(encoding="utf-8"), end="")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
