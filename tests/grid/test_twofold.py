"""Machine code that is kept on disk is of the sources that stand there."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from tellegen.grid.twofold import digest_of

INNER = "def step(x: float) -> float:\n    return x + {}.0\n"
OUTER = "from tellegen.grid.twofold import Twofold\nfrom tellegen.{} import step\nstep = Twofold(step)\n"
OUTER += "@Twofold\ndef twice(x: float) -> float:\n    return step(step(x))\n"
RUN = "from tellegen.{} import twice\nprint(twice.compiled(0.0))\n"


def test_a_digest_is_of_all_that_a_module_takes_from_others() -> None:
    """The descent calls loops of other modules."""
    for name in ("tellegen.market.descent", "tellegen.market.members", "tellegen.market.loops"):
        importlib.import_module(name)
    digests = {digest_of(f"tellegen.market.{name}") for name in ("descent", "members", "loops", "program")}
    assert len(digests) == 4
    assert digest_of("tellegen.market.descent") == digest_of("tellegen.market.descent")


def test_code_is_compiled_anew_where_an_inner_module_has_changed(tmp_path: Path) -> None:
    """The outer module, its path, size and time stay as they are."""
    pytest.importorskip("numba")
    inner, outer = tmp_path / "trial_inner.py", tmp_path / "trial_outer.py"
    outer.write_text(OUTER.format("trial_inner"))
    said = []
    for step in (1, 2):
        inner.write_text(INNER.format(step))
        program = f"import tellegen; tellegen.__path__.append({str(tmp_path)!r})\n" + RUN.format("trial_outer")
        done = subprocess.run([sys.executable, "-B", "-c", program], capture_output=True, text=True, check=True)
        said.append(done.stdout.strip())
    assert said == ["2.0", "4.0"]
    assert list(tmp_path.rglob("*.nbi"))
