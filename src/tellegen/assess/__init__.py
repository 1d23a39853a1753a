"""How does it compare? Benchmarks: a registry of workloads, each beside a peer in the same run.

In: a name. Out: figures with units, and targets where there are any. Timings are medians of several
repetitions in one process; trust their ratios.
"""

from tellegen.assess.benchmarks import BENCHMARKS, Benchmark, Figure, Result, run_benchmark

__all__ = ["BENCHMARKS", "Benchmark", "Figure", "Result", "run_benchmark"]
