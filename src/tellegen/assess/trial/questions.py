"""What is asked of every outcome, and how large an error passes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np


class Question(StrEnum):
    """What is asked, as it is reported."""

    ENDS = "ends without a fallback"
    FINITE = "prices and awards are finite, awards within their orders"
    FLOW = "power flow of the dispatch"
    BRANCH = "voltages from no load by another Newton"
    MEASURED = "root power and terminal flows"
    BIDS = "bids: full where better, none where worse, part where equal"
    HELD = "limits hold or are listed"
    DUALS = "duals: not negative, complementary, on the penalty curve"
    PRICES = "prices by the transpose of that Newton"
    PARTS = "parts of prices sum to them"
    MONEY = "welfare and rent from awards and prices"
    QUOTIENT = "prices against difference quotients"
    WARM_PRICES = "warm and cold: prices"
    WARM_DISPATCH = "warm and cold: dispatch"
    ELSEWHERE = "several optima, warm and cold end at two: worth"
    REPLAY = "voltages in OpenDSS"
    WITHIN = "with meters: prices of gate and run within cap and floor"
    RUN_ENDS = "with meters: gate and run end without a fallback"
    RENT_LOSSES = "with meters: what the run's prices collect for losses, and no-load losses at the root's price"
    RENT_LIMITS = "with meters: what they collect for limits that are convex"
    RENT_BENT = "with meters: the same where a highest voltage or export at the root binds, no law: short by"
    RENT_METERS = "with meters: both by what meters show, which is no law: short by"


ALLOWED = {
    Question.ENDS: 0.0,
    Question.FINITE: 0.0,
    Question.FLOW: 2e-9,
    Question.BRANCH: 1e-6,
    Question.MEASURED: 1e-7,
    Question.BIDS: 2e-6,
    Question.HELD: 2e-7,
    Question.DUALS: 1e-6,
    Question.PRICES: 1e-6,
    Question.PARTS: 1e-9,
    Question.MONEY: 1e-7,
    Question.QUOTIENT: 1e-4,
    Question.WARM_PRICES: 1e-6,
    Question.WARM_DISPATCH: 1e-6,
    Question.ELSEWHERE: np.inf,
    Question.REPLAY: 1e-6,
    Question.WITHIN: 0.0,
    Question.RUN_ENDS: 0.0,
    Question.RENT_LOSSES: 1e-7,
    Question.RENT_LIMITS: 1e-7,
    Question.RENT_BENT: np.inf,
    Question.RENT_METERS: np.inf,
}
"""Largest error that passes: pu of power (FLOW), pu of voltage (BRANCH, REPLAY), pu of a limit (HELD), currency/kWh
(BIDS; the engine asks 1e-6 of itself), else a share of the size of prices, powers or turnover."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The largest error of one question, and where it stands."""

    question: Question
    error: float
    where: str = ""

    @property
    def passed(self) -> bool:
        """Whether it is small enough."""
        return self.error <= ALLOWED[self.question]
