"""`make fuzz TARGET=NAME MINUTES=10`: look for messages that break a reader, led by the lines of it that they reach.

Needs atheris, which `make fuzz` installs. Whatever raises anything but a `TellegenError`, takes 20 s or 2 GB ends the
search, and the message lies in `fuzz-work/`. Otherwise the messages that reached furthest are kept in
`tests/fuzz/corpus/`.
"""

from __future__ import annotations

import base64
import subprocess
import sys
from pathlib import Path

WORK = Path("fuzz-work")
BYTES_MAX = 4096
KEPT_MAX = 200


def main() -> int:
    """The child searches, the parent keeps what it found."""
    import atheris

    with atheris.instrument_imports(include=["tellegen"], enable_loader_override=False):
        from fuzz.targets import TARGETS

    name, seconds = sys.argv[1], int(float(sys.argv[2]) * 60)
    if name not in TARGETS:
        print(f"fuzz: no target {name!r}; one of {', '.join(TARGETS)}", file=sys.stderr)
        return 2
    target = TARGETS[name]
    if sys.argv[3:4] == ["--child"]:
        atheris.Setup([sys.argv[0], *sys.argv[4:]], lambda message: target.takes(bytes(message)))
        atheris.Fuzz()
    found = WORK / name
    found.mkdir(parents=True, exist_ok=True)
    for number, message in enumerate(target.messages()):
        (found / f"before-{number}").write_bytes(message)
    child = [sys.executable, "-m", "fuzz.search", name, sys.argv[2], "--child"]
    limits = [f"-max_len={BYTES_MAX}", "-timeout=20", "-rss_limit_mb=2048", f"-artifact_prefix={found}-"]
    # `reduce_inputs`: of messages that reach the same the shorter one stays
    searched = subprocess.run(
        [*child, *limits, "-reduce_inputs=1", f"-max_total_time={seconds}", str(found)], check=False
    )
    if searched.returncode:
        return searched.returncode
    messages = sorted((file.read_bytes() for file in found.iterdir()), key=len)
    lines = sorted(base64.b64encode(message).decode() for message in messages[:KEPT_MAX] if message not in target.seeds)
    target.corpus.parent.mkdir(exist_ok=True)
    target.corpus.write_text("".join(f"{line}\n" for line in lines), encoding="ascii")
    print(f"fuzz: {name}: {len(lines)} messages kept in {target.corpus}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
