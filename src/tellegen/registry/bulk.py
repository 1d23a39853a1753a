"""Certificates by the hundred thousand: every core signs, and what is interrupted goes on where it stopped."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from itertools import islice, repeat

from tellegen.records import Refusal
from tellegen.registry.authority import VALID_DAYS, Authority, Certificate, requested_key
from tellegen.registry.identity import NUMBERED, Identity, RegistryError
from tellegen.registry.registrar import Registrar
from tellegen.registry.requests import Refused, Request
from tellegen.spawned import pooled

CHUNK = 1000
"""Requests that are signed, stored and put on record together."""
_authority: list[Authority] = []  # of a worker process


def admit_many(
    registrar: Registrar,
    requests: Iterable[Request],
    known_at: int,
    *,
    days: int = VALID_DAYS,
    processes: int | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[int, list[Refused]]:
    """Admit many meters and participants for which the operator vouches, a journal entry and a commit per thousand.

    Whoever is admitted already with the same key is passed over, so that the same call finishes what was interrupted.

    Parameters
    ----------
    processes : that sign; as many as there are cores without it.
    progress : told how many requests have been gone through.

    Returns
    -------
    How many were admitted now, and who was refused; rows count through all requests.
    """
    admitted, done = 0, 0
    refused: list[Refused] = []
    workers = processes or os.cpu_count() or 1
    with pooled(workers, _begin, *registrar.authority.seeds()) as pool:
        chunks = _chunks(requests)
        while group := list(islice(chunks, 2 * workers)):
            fresh = [_not_yet(registrar, chunk, known_at) for chunk in group]
            asked = [[request for _, request in chunk] for chunk in fresh]
            answers = pool.map(_issue, asked, repeat(known_at), repeat(days))
            for whole, chunk, answer in zip(group, fresh, answers, strict=True):
                issued = []
                for (row, _), each in zip(chunk, answer, strict=True):
                    try:
                        issued.append(_issued(registrar, each))
                    except RegistryError as error:
                        refused.append(Refused(done + row, Refusal.MALFORMED, str(error)))
                if issued:
                    registrar.admit_issued(issued, known_at)
                    registrar.journal.commit(known_at)
                admitted += len(issued)
                done += len(whole)
                progress(done)
    return admitted, refused


def _issued(registrar: Registrar, answer: Certificate | str) -> Certificate:
    if isinstance(answer, str):
        raise RegistryError(answer)
    registrar.check_key(answer)
    return answer


def _chunks(requests: Iterable[Request]) -> Iterator[list[Request]]:
    source = iter(requests)
    while chunk := list(islice(source, CHUNK)):
        yield chunk


def _not_yet(registrar: Registrar, chunk: list[Request], at: int) -> list[tuple[int, Request]]:
    """Requests of a chunk that have not been admitted with the same key, with their rows."""
    standing: dict[Identity, bytes | None] = {}
    for role in NUMBERED:
        numbers = [request.identity.number for request in chunk if request.identity.role is role]
        keys = registrar.directory.keys(role, numbers, at)
        standing.update((Identity(role, number), key) for number, key in zip(numbers, keys, strict=True))
    return [(row, r) for row, r in enumerate(chunk) if not _is_for(r.request, standing.get(r.identity))]


def _is_for(request: bytes, key: bytes | None) -> bool:
    try:
        return key is not None and requested_key(request).public_bytes_raw() == key
    except RegistryError:
        return False  # the worker will say what is wrong


def _begin(issuing_seed: bytes, root_pem: str, issuing_pem: str) -> None:
    _authority[:] = [Authority.of(issuing_seed, root_pem, issuing_pem)]


def _issue(requests: list[Request], known_at: int, days: int) -> list[Certificate | str]:
    out: list[Certificate | str] = []
    for request in requests:
        try:
            if request.identity.role not in NUMBERED:
                raise RegistryError(f"{request.identity}: who is known by a name is admitted one by one")
            out.append(_authority[0].issue(request.identity, request.request, known_at, days))
        except RegistryError as error:
            out.append(str(error))
    return out
