"""Benchmark ``enrolment``: what it costs to admit devices, to find them, and to know their messages."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from tellegen.assess.registry import Figure, Options, Report, median_figure
from tellegen.metering import Code, DeviceCodes, ReplayWindow
from tellegen.records import Readings, Role
from tellegen.registry import (
    Certificate,
    Directory,
    Identity,
    Request,
    Shard,
    admit_many,
    create_shard,
    open_shard,
    signing_request,
)

CREATED = 1_700_000_000
LOOKUPS = 2000
BATCH = 1000
ROUNDS = 5


def measure(options: Options, report: Report) -> None:
    """Admit devices, half meters and half participants, on to a journal; look them up; check codes and counters."""
    devices = 2000 if options.quick else 100_000
    options.progress(f"making {devices:,} keys and signing requests (not measured)")
    start = time.perf_counter()
    requests = [Request(Identity((Role.METER, Role.PARTICIPANT)[n % 2], n), _request(n)) for n in range(1, devices + 1)]
    report.notes.append(f"keys and signing requests were made beforehand, in {time.perf_counter() - start:.1f} s")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shard"
        create_shard(path, "bench.example/shard", CREATED, seed=b"benchmark")
        with open_shard(path, write=True) as shard:
            _admission(shard, requests, options, report)
            _look_ups(shard, devices, report)
        size = sum(f.stat().st_size for f in (path / "registry").iterdir())
        report.figures.append(Figure("certificates stored, per device", size / devices, "bytes"))
        options.progress("folding the journal")
        with open_shard(path) as shard:
            fold = _cpu(lambda: Directory.of(shard.journal, shard.registrar.vault), 1)
        report.figures.append(Figure("fold the directory from the journal, per device", 1e6 * fold / devices, "CPU us"))
    options.progress("checking codes and counters")
    _messages(20_000 if options.quick else 1_000_000, report)


def _request(number: int) -> bytes:
    key = Ed25519PrivateKey.from_private_bytes(number.to_bytes(32, "big"))
    return x509.load_pem_x509_csr(signing_request(key)).public_bytes(Encoding.DER)


def _admission(shard: Shard, requests: list[Request], options: Options, report: Report) -> None:
    authority, sample = shard.registrar.authority, requests[:BATCH]
    issuing = _cpu(lambda: [authority.issue(r.identity, r.request, CREATED) for r in sample], 3)
    options.progress("admitting")
    cores = os.cpu_count() or 1
    start, before = time.perf_counter(), os.times()
    admitted, refused = admit_many(shard.registrar, requests, CREATED)
    elapsed, after = time.perf_counter() - start, os.times()
    spent = sum(after[:4]) - sum(before[:4])  # of this process and of those that have ended since
    if refused or admitted != len(requests):
        report.notes.append(f"{len(refused)} requests were refused")
    report.figures += [
        Figure("check a signing request and issue its certificate", 1e6 * issuing / len(sample), "CPU us"),
        Figure("certificates per core", len(sample) / issuing, "1/s"),
        Figure(
            f"admit {admitted:,} devices: issue, store, put on record, fsync; per device",
            1e6 * spent / admitted,
            "CPU us",
            conditions={
                "wall us": 1e6 * elapsed / admitted,
                "processes": float(cores),
                "a commit per": float(BATCH),
            },
        ),
    ]


def _look_ups(shard: Shard, devices: int, report: Report) -> None:
    rng = np.random.default_rng(1)
    store = shard.registrar.certificates
    serials = 2 * rng.integers(0, devices // 2, LOOKUPS) + 2  # even numbers are meters
    found = [store.of(Identity(Role.METER, int(n)))[-1] for n in serials]

    def timed(look: Callable[[Certificate], object]) -> list[float]:
        out = []
        for certificate in found:
            start = time.perf_counter()
            look(certificate)
            out.append(1000.0 * (time.perf_counter() - start))
        return out

    customers = 2 * rng.integers(0, devices // 2, BATCH) + 1
    report.figures += [
        median_figure(
            f"find a certificate by fingerprint among {devices:,}",
            timed(lambda c: store.by_fingerprint(c.fingerprint)),
            "ms",
            target=1.0,
        ),
        median_figure("find one by the serial of its meter", timed(lambda c: store.of(c.identity)), "ms", target=1.0),
        median_figure(
            f"keys of {BATCH:,} customers from the directory",
            [1000.0 * _cpu(lambda: shard.directory.customer_keys(customers, CREATED), 1) for _ in range(50)],
            "CPU ms",
            target=0.2,
        ),
    ]


def _messages(meters: int, report: Report) -> None:
    serials = np.random.default_rng(2).permutation(meters) * 37 + 10**9
    batches = list(_batches(serials[: 100 * BATCH]))
    rows = sum(len(batch) for batch in batches)
    for code, target in ((Code.HMAC, 1e6 / 300_000), (Code.GMAC, None)):
        codes = DeviceCodes(bytes(32), serials, code=code)
        derived = _cpu(lambda codes=codes: [codes.tag(batch, 7) for batch in batches], 1)  # type: ignore[misc]
        sent = [codes.tag(batch, 7) for batch in batches]
        checked = _cpu(lambda codes=codes, sent=sent: [codes.check(batch, 7) for batch in sent], ROUNDS)  # type: ignore[misc]
        report.figures.append(
            Figure(
                f"check the code ({code.value}) of a reading, keys warm",
                1e6 * checked / rows,
                "CPU us",
                target=target,
                conditions={"meters": float(meters), "with its key derived": f"{1e6 * derived / rows:.3g} us"},
            )
        )
    window = ReplayWindow(serials)
    spent = []
    for number in range(1, ROUNDS + 1):
        counter = np.full(BATCH, number)

        def one(counter: np.ndarray = counter) -> None:
            for batch in batches:
                window.check(batch.meter, counter)
                window.mark(batch.meter, counter)

        spent.append(_cpu(one, 1))
    report.figures.append(Figure("check and mark a counter", 1e6 * min(spent) / rows, "CPU us", target=0.5))


def _batches(serials: np.ndarray) -> Iterator[Readings]:
    for start in range(0, serials.size, BATCH):
        meter = serials[start : start + BATCH]
        ones = np.ones(meter.size, dtype=np.int64)
        yield Readings(
            customer=np.arange(start, start + meter.size, dtype=np.int32),
            meter=meter,
            counter=ones,
            import_wh=meter,
            export_wh=ones,
            reactive_varh=ones,
            voltage_mv=ones,
            tag=np.zeros(meter.size, dtype="V16"),
        )


def _cpu(work: Callable[[], object], repeats: int) -> float:
    """Least processor time of several runs, s: a machine that others use too only ever adds."""
    spent = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        spent.append(time.process_time() - start)
    return min(spent)
