"""The file in which somebody says which registers were true.

A correction file says whose they are::

    customer = "home-042"
    reason = "registers read from the meter's own memory"
    known_at = 2016-05-11T09:00:00Z
    first_interval = 2016-05-08T07:00:00Z   # the registers' first value stands at its start
    import_wh = [1203400, 1203431, 1203470]  # one value more than there are intervals
    export_wh = [0, 0, 0]
    reactive_varh = [310, 314, 319]

"""

from __future__ import annotations

import hashlib
from datetime import datetime
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tellegen.errors import InputError
from tellegen.foreign.documents import bounded_text, toml_document
from tellegen.units import MARKET_INTERVAL_S

ORDER = "order/"
"""Beginning of the names of what follows from a correction by authority; a digest of its file comes behind."""
Register = Annotated[int, Field(ge=-(2**62), le=2**62)]


class CorrectionFile(BaseModel):
    """True registers of one meter over consecutive market intervals."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    customer: str
    reason: str = Field(min_length=1, max_length=500)
    known_at: datetime
    first_interval: datetime
    import_wh: list[Register] = Field(min_length=2, max_length=10_000)
    export_wh: list[Register] = Field(min_length=2, max_length=10_000)
    reactive_varh: list[Register] = Field(min_length=2, max_length=10_000)

    @property
    def first(self) -> int:
        """The first market interval that is corrected."""
        return int(self.first_interval.timestamp()) // MARKET_INTERVAL_S

    @property
    def known(self) -> int:
        """When the true registers became known, seconds since the epoch."""
        return int(self.known_at.timestamp())

    @property
    def name(self) -> str:
        """Name on record: the same file says the same thing."""
        return ORDER + hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:32]


def read_correction(path: Path) -> CorrectionFile:
    """Read a correction file.

    Raises
    ------
    InputError : unreadable, an unknown or missing key, a time without zone, or lists of unequal length.
    """
    try:
        form = CorrectionFile.model_validate(toml_document(bounded_text(path), path))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InputError(path, f"key '{'.'.join(map(str, first['loc']))}'", str(first["msg"])) from None
    for name in ("known_at", "first_interval"):
        if getattr(form, name).tzinfo is None:
            raise InputError(path, f"key '{name}'", "has no time zone; write it as 2016-05-08T07:00:00Z")
    if form.first_interval.timestamp() % MARKET_INTERVAL_S:
        raise InputError(path, "key 'first_interval'", "is not the start of a market interval (every 5 minutes, UTC)")
    lengths = {len(form.import_wh), len(form.export_wh), len(form.reactive_varh)}
    if len(lengths) > 1:
        raise InputError(path, "registers", f"have {sorted(lengths)} values; give the same number of each")
    return form
