"""What the service counts, as Prometheus text."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

COMMIT_BOUNDS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


@dataclass(slots=True)
class Counters:
    """Counts since the process began.

    Attributes
    ----------
    accepted : rows that count, by route.
    refused_rows : by reason; refused_batches : whole ones, by problem.
    again : batches that were on record before.
    mqtt_ignored : what was not done that a message asked for, by what. mqtt_taken : sessions with a broker that
        another client has taken.
    """

    accepted: Counter[str] = field(default_factory=Counter)
    refused_rows: Counter[str] = field(default_factory=Counter)
    refused_batches: Counter[str] = field(default_factory=Counter)
    again: int = 0
    mqtt_ignored: Counter[str] = field(default_factory=Counter)
    mqtt_taken: int = 0
    commits: int = 0
    commit_seconds: float = 0.0
    _commits_within: list[int] = field(default_factory=lambda: [0] * (len(COMMIT_BOUNDS_S) + 1))

    def commit(self, seconds: float) -> None:
        """Count a commit that took so long."""
        self.commits += 1
        self.commit_seconds += seconds
        self._commits_within[bisect_left(COMMIT_BOUNDS_S, seconds)] += 1

    def text(self, gauges: dict[str, float], stages: dict[str, float]) -> str:
        """Everything counted, what the gauges show now, and the CPU seconds of the intake's stages."""
        return "\n".join([*self._lines(gauges, stages), ""])

    def _lines(self, gauges: dict[str, float], stages: dict[str, float]) -> Iterator[str]:
        yield "# TYPE tellegen_rows_accepted_total counter"
        yield from (f'tellegen_rows_accepted_total{{route="{r}"}} {n}' for r, n in sorted(self.accepted.items()))
        yield "# TYPE tellegen_rows_refused_total counter"
        yield from (f'tellegen_rows_refused_total{{reason="{r}"}} {n}' for r, n in sorted(self.refused_rows.items()))
        yield "# TYPE tellegen_batches_refused_total counter"
        for problem, count in sorted(self.refused_batches.items()):
            yield f'tellegen_batches_refused_total{{problem="{problem}"}} {count}'
        yield "# TYPE tellegen_batches_again_total counter"
        yield f"tellegen_batches_again_total {self.again}"
        yield "# TYPE tellegen_mqtt_ignored_total counter"
        yield from (f'tellegen_mqtt_ignored_total{{what="{w}"}} {n}' for w, n in sorted(self.mqtt_ignored.items()))
        yield "# TYPE tellegen_mqtt_sessions_taken_total counter"
        yield f"tellegen_mqtt_sessions_taken_total {self.mqtt_taken}"
        yield "# TYPE tellegen_commit_seconds histogram"
        within = 0
        for bound, count in zip(COMMIT_BOUNDS_S, self._commits_within, strict=False):
            within += count
            yield f'tellegen_commit_seconds_bucket{{le="{bound:g}"}} {within}'
        yield f'tellegen_commit_seconds_bucket{{le="+Inf"}} {self.commits}'
        yield f"tellegen_commit_seconds_sum {self.commit_seconds:.6f}"
        yield f"tellegen_commit_seconds_count {self.commits}"
        yield "# TYPE tellegen_stage_cpu_seconds_total counter"
        yield from (f'tellegen_stage_cpu_seconds_total{{stage="{s}"}} {n:.6f}' for s, n in sorted(stages.items()))
        yield "# TYPE process_cpu_seconds_total counter"
        yield f"process_cpu_seconds_total {time.process_time():.3f}"
        for name, value in gauges.items():
            yield f"# TYPE tellegen_{name} gauge"
            yield f"tellegen_{name} {value:g}"
