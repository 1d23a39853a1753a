"""The enrolment benchmark admits everybody it measures."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np


def test_a_quick_enrolment_measures_everything(tellegen: Callable[..., Any]) -> None:
    answer = tellegen("bench", "enrolment", "--quick", "--json")
    assert answer.status == 0, answer.err
    document = json.loads(answer.out)
    assert len(document["figures"]) == 11
    assert all(np.isfinite(figure["value"]) and figure["value"] > 0 for figure in document["figures"])
    assert not any("refused" in note for note in document["notes"])
