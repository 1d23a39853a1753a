"""What the record says of its own storage: batches whose rows have gone to the archive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from tellegen.records.table import Table, column


@dataclass(frozen=True, slots=True, eq=False)
class Compactions(Table):
    """Files of the archive: each holds every row that one kind, feeder and epoch put on record.

    An epoch is a stretch of the UTC day on which the batches became known. Entries of other kinds, feeders and
    epochs may stand between the first and the last.
    """

    kind: ClassVar[str] = "compactions"

    rows_of: NDArray[np.bytes_] = column("|S32", "ASCII", "kind of the rows")
    feeder: NDArray[np.bytes_] = column("|S100", "ASCII", "feeder they are about")
    day: NDArray[np.int64] = column("<i8", "d", "UTC day since the epoch on which they became known")
    epoch: NDArray[np.int64] = column("<i8", "1", "number of the key under which they were sealed before")
    first_entry: NDArray[np.int64] = column("<i8", "1", "journal index of the first batch")
    entries: NDArray[np.int64] = column("<i8", "1", "number of batches")
    row_count: NDArray[np.int64] = column("<i8", "1", "number of rows in them")
    file_sha256: NDArray[np.void] = column("|V32", "bytes", "digest of the Parquet file")
