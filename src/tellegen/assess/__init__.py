"""How does it compare? Benchmarks: a registry of workloads, each beside a peer in the same run.

In: a name and options. Out: figures with units, conditions, and targets where there are any. Timings are medians of
several repetitions in one process; trust their ratios. `workload` makes markets and limits that bind, `derivative`
judges prices by re-solved optima, `replay` judges a dispatch by OpenDSS.
"""

from tellegen.assess.registry import Benchmark, Figure, Options, Report, Result, run_benchmark

BENCHMARKS = {
    "clearing": Benchmark(
        "synthetic feeders of 1,000 customers, one-phase and three-phase, limits binding, every bid new each interval; "
        "a city of such feeders on two cores",
        "tellegen.assess.clearing_speed",
    ),
    "feeders": Benchmark(
        "one engine over many networks, each with a market of its own loads and voltage limits that bind: synthetic, "
        "SimBench, pandapower, and those of --networks",
        "tellegen.assess.feeder_survey",
    ),
    "trial": Benchmark(
        "random books on five feeders and those of --networks, load from nothing to three times the peak: does every "
        "clearing end at an optimum, and are flows, awards, limits and prices what they say (--books, --only)",
        "tellegen.assess.trial.benchmark",
    ),
    "record": Benchmark(
        "288 batches of 121 meter readings, encrypted per customer, one commit each", "tellegen.assess.record_speed"
    ),
    "vee": Benchmark(
        "validation, estimation and editing: a million meters and one interval, a thousand meters and a day of "
        "5 minutes with registers at midnight; a day read from CSV",
        "tellegen.assess.validation_speed",
    ),
    "ingestion": Benchmark(
        "readings with their meters' codes and individually signed bids over HTTP to `tellegen serve`, receipts after "
        "fsync; load from another process at a rate that does not wait; SQLite and a bare file as peers",
        "tellegen.assess.ingestion",
    ),
    "attacks": Benchmark(
        "200 hostile connections of each kind at an intake, over TLS, and at a witness, from one address, from 200 and "
        "from that of a well-behaved sender: what it loses of its rate alone (--only)",
        "tellegen.assess.attacks.benchmark",
    ),
    "enrolment": Benchmark(
        "100,000 meters and participants certified, stored and put on record; look-ups among them; codes and counters "
        "of a million meters",
        "tellegen.assess.enrolment",
    ),
    "storage": Benchmark(
        "a day of 5-minute registers and bids of 1,000 customers: sealed, journaled, compacted, read back",
        "tellegen.assess.storage",
    ),
    "peers": Benchmark(
        "the same markets, limits binding, in other engines (Ipopt, second-order cones, branch-flow programs, "
        "pandapower), each judged by one AC power flow; the same order book without a network in others",
        "tellegen.assess.peers.benchmark",
    ),
    "faults": Benchmark(
        "journal and intake on a disk, clock and network that fail; bits flipped, files changed; servers killed",
        "tellegen.assess.faults.benchmark",
    ),
    "reopen": Benchmark(
        "opening intake and market until a first batch is final and a first gate cleared, when the next snapshots are "
        "due: bytes after 2 and 30 closed days of 1,000 meters, seconds with 100,000 meters; history in bulk",
        "tellegen.assess.reopen",
    ),
    "tricks": Benchmark(
        "orders that nobody means, relief, real deviations and silent meters on the demo's day and on networks "
        "(--networks), and a thousand strategies at random: what they earn at the gate's prices, and by the price run; "
        "rules turned off; tricks of settlement",
        "tellegen.assess.tricks.benchmark",
    ),
    "honest": Benchmark(
        "days of homes that mean what they bid, over a plant that is not the market's model, ten seeds each: how far "
        "what the price run settles is from the guide, and whom that costs how much (--seeds, --prices)",
        "tellegen.assess.honest",
    ),
    "city": Benchmark(
        "a synthetic city, one authenticated read and one signed bid per meter and five minutes: ingested, cleared on "
        "AC networks, settled, posted, with receipts (--meters, --intervals)",
        "tellegen.assess.city.benchmark",
    ),
}
"""Every benchmark by name; one more is one more entry."""

__all__ = ["BENCHMARKS", "Benchmark", "Figure", "Options", "Report", "Result", "run_benchmark"]
