"""How does it compare? Benchmarks: a registry of workloads, each beside a peer in the same run.

In: a name and options. Out: figures with units, conditions, and targets where there are any. Timings are medians of
several repetitions in one process; trust their ratios. `workload` makes markets and limits that bind, `derivative`
judges prices by re-solved optima, `replay` judges a dispatch by OpenDSS.
"""

from tellegen.assess import clearing_speed, feeder_survey, peers, record_speed
from tellegen.assess.registry import Benchmark, Figure, Options, Report, Result, run_benchmark

BENCHMARKS = {
    entry.name: entry
    for entry in (
        clearing_speed.BENCHMARK,
        feeder_survey.BENCHMARK,
        record_speed.BENCHMARK,
        peers.BENCHMARK,
    )
}
"""Every benchmark by name; one more is one more line."""

__all__ = ["BENCHMARKS", "Benchmark", "Figure", "Options", "Report", "Result", "run_benchmark"]
