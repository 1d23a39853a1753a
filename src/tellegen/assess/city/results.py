"""What the market put on record of an interval, read back by those whom it concerns."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tellegen.assess.city.population import ShardPopulation
from tellegen.assess.city.senders import Awarded
from tellegen.journal import Journal
from tellegen.operations.recorder import Recorder
from tellegen.privacy import Vault
from tellegen.records import Clearings, Schedules


class MarketRecord:
    """The market journal of a shard, open for reading."""

    def __init__(self, folder: Path, population: ShardPopulation) -> None:
        self._population = population
        self._vault = Vault.open(folder / "vault")
        self._journal = Journal.open(folder / "market")
        self._record = Recorder(self._journal, self._vault, "")
        self._number = {feeder.name: k for k, feeder in enumerate(population.feeders)}

    def awarded(self, interval: int) -> Awarded:
        """What everybody was awarded; nothing to who is on no schedule."""
        self._journal.refresh()
        p = self._population
        energy, reactive = np.zeros((2, p.customer.size), dtype=np.int64)
        losses = np.zeros(len(p.feeders), dtype=np.int64)
        for index in self._journal.find(kind=Clearings.kind, interval=interval):
            header = self._journal.entry(index)
            losses[self._number[header.feeder]] = self._record.table(index, Clearings).losses_wh[0]
            table = self._record.table(header.causes[1], Schedules)
            place = np.searchsorted(p.customer, table.customer)
            energy[place], reactive[place] = table.energy_wh, table.reactive_varh
        return Awarded(energy, reactive, losses)

    def close(self) -> None:
        """Release the files."""
        self._journal.close()
        self._vault.close()
