"""What an agent expects of its home and of prices, from nothing but the past.

Every function takes the past as an array whose last column is the latest interval known; none has a
way to see beyond it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tellegen.errors import TellegenError

FloatArray = NDArray[np.float64]

PER_DAY = 288
SMOOTHING = 13
"""Intervals in the centred moving average that damps the lagged days (65 minutes): a kettle does not
boil at the same five minutes two days running."""
WEEK = 7
LEAST_TRAINING_DAYS = 3


class ForecastError(TellegenError):
    """The past is too short to say anything."""


def known_days(history: FloatArray, lead: int) -> FloatArray:
    """Whole days of the past, aligned with the day that starts `lead` intervals after its end.

    Returns float64[n, K, 288], oldest first.

    Raises
    ------
    ForecastError : not one whole day is known.
    """
    known = history.shape[1] + lead
    newest = 1 + -(-lead // PER_DAY)
    oldest = known // PER_DAY
    days = oldest - newest + 1
    if days < 1:
        raise ForecastError(
            f"{history.shape[1]} intervals of history with lead {lead} hold no whole day; one is needed"
        )
    start = known - oldest * PER_DAY
    return history[:, start : start + days * PER_DAY].reshape(len(history), days, PER_DAY)


def time_of_day_mean(history: FloatArray, *, lead: int = 0, intervals: int = PER_DAY, days: int = WEEK) -> FloatArray:
    """Mean of the latest known days at each time of day, float64[n, intervals].

    >>> past = np.concatenate([np.full(288, 1.0), np.full(288, 3.0)]).reshape(1, -1)
    >>> time_of_day_mean(past)[0, :2].tolist()
    [2.0, 2.0]
    """
    mean = known_days(history, lead)[:, -days:].mean(axis=1)
    return np.asarray(mean[:, np.arange(intervals) % PER_DAY])


def day_ahead_forecast(
    history: FloatArray,
    *,
    lead: int = 0,
    intervals: int = PER_DAY,
    floor: float = 0.0,
    ridge: float = 0.1,
) -> FloatArray:
    """Forecast the day that starts `lead` intervals after the past ends, one ridge regression per row.

    The value at a time of day is a linear function of the latest known day, the day before it, the
    same day of the week before, the mean of the latest seven, the mean of all, each smoothed over an
    hour, and a constant. Coefficients minimise squared error over the past, shrunk towards the mean
    of the two means by `ridge` (share of each regressor's own weight). With fewer than `LEAST_TRAINING_DAYS`
    days to learn from the forecast is the time-of-day mean. What was zero at a time of day on all of
    the latest seven days stays zero (night, for PV); forecasts lie between `floor` and the largest
    value seen.

    Parameters
    ----------
    history : float64[n, H].
    intervals : length of the day; 300 on the day the clock goes back.

    Returns
    -------
    float64[n, intervals], unit of `history`.

    >>> day = np.sin(np.linspace(0, np.pi, 288))
    >>> bool(np.abs(day_ahead_forecast(np.tile(day, (1, 20)))[0] - day).max() < 0.05)
    True
    """
    if not len(history):
        return np.zeros((0, intervals))
    days = known_days(history, lead)
    ahead = 1 + -(-lead // PER_DAY)
    count = days.shape[1]
    weekly = -ahead % WEEK
    first = ahead + WEEK - 1
    latest = days[:, -WEEK:]
    if count - first < LEAST_TRAINING_DAYS:
        forecast = latest.mean(axis=1)
    else:
        smooth = _smoothed(days)
        running = np.cumsum(np.concatenate([np.zeros_like(smooth[:, :1]), smooth], axis=1), axis=1)
        source = np.arange(WEEK - 1, count)
        regressors = np.stack(
            [
                np.ones((len(days), source.size, PER_DAY)),
                smooth[:, source],
                smooth[:, source - 1],
                smooth[:, source - weekly],
                (running[:, source + 1] - running[:, source + 1 - WEEK]) / WEEK,
                running[:, source + 1] / (source + 1)[:, None],
            ],
            axis=1,
        )
        prior = np.array([0.0, 0.0, 0.0, 0.0, 0.5, 0.5])
        past_x = regressors[:, :, : count - first].reshape(len(days), 6, -1)
        past_y = days[:, first:].reshape(len(days), -1) - prior @ past_x
        gram = past_x @ past_x.transpose(0, 2, 1)
        weight = gram[:, range(6), range(6)]
        gram[:, range(6), range(6)] += ridge * weight + 1e-9 * (1.0 + weight.max(axis=1, keepdims=True))
        coefficients = prior + np.linalg.solve(gram, past_x @ past_y[:, :, None])[:, :, 0]
        forecast = np.einsum("nft,nf->nt", regressors[:, :, -1], coefficients)
    forecast = np.where(np.all(latest == 0.0, axis=1), 0.0, forecast)
    most = np.maximum(days.max(axis=(1, 2)), floor)
    return np.asarray(np.clip(forecast, floor, most[:, None])[:, np.arange(intervals) % PER_DAY])


def _smoothed(days: FloatArray) -> FloatArray:
    flat = days.reshape(len(days), -1)
    half = SMOOTHING // 2
    padded = np.concatenate(
        [np.repeat(flat[:, :1], half + 1, axis=1), flat, np.repeat(flat[:, -1:], half, axis=1)], axis=1
    )
    total = np.cumsum(padded, axis=1)
    return np.asarray((total[:, SMOOTHING:] - total[:, :-SMOOTHING]) / SMOOTHING).reshape(days.shape)


def error_persistence(history: FloatArray) -> FloatArray:
    """Share of a deviation from the time-of-day mean that is left one interval later, float64[n].

    The lag-one autocorrelation of the deviation over the latest seven days, in [0, 0.995]; 0.9 where
    less than two days are known.
    """
    usable = history.shape[1] // PER_DAY
    if usable < 2 or not len(history):
        return np.full(len(history), 0.9)
    latest = history[:, -min(usable, WEEK) * PER_DAY :].reshape(len(history), -1, PER_DAY)
    deviation = (latest - latest.mean(axis=1, keepdims=True)).reshape(len(history), -1)
    power = np.sum(deviation[:, :-1] ** 2, axis=1)
    product = np.sum(deviation[:, 1:] * deviation[:, :-1], axis=1)
    return np.asarray(np.clip(product / np.where(power > 0.0, power, 1.0), 0.0, 0.995))


def real_time_forecast(
    history: FloatArray,
    ahead: FloatArray,
    *,
    known: int,
    persistence: FloatArray,
    floor: float = 0.0,
) -> FloatArray:
    """Correct a day-ahead forecast by its latest error, which fades with time.

    Parameters
    ----------
    history : float64[n, H]; its last column is the latest value known.
    ahead : float64[n, T], forecast of a window of intervals.
    known : how many of the window's intervals have passed (0 or less: none).
    persistence : float64[n] from `error_persistence`.

    Returns
    -------
    float64[n, T - max(known, 0)] for the rest of the window:
    ``ahead(t) + persistence^k * (latest - ahead(latest))``, `k` intervals after the latest.

    >>> past, plan = np.array([[0.0, 2.0]]), np.array([[1.0, 1.0, 1.0]])
    >>> real_time_forecast(past, plan, known=1, persistence=np.array([0.5])).tolist()
    [[1.5, 1.25]]
    """
    passed = max(known, 0)
    rest = ahead[:, passed:]
    if not history.shape[1] or not rest.shape[1]:
        return np.maximum(rest, floor)
    error = history[:, -1] - ahead[:, max(passed - 1, 0)]
    steps = np.arange(rest.shape[1]) + 1 + (passed - known)
    return np.maximum(rest + error[:, None] * persistence[:, None] ** steps, floor)


def expected_prices(published: FloatArray, past_wholesale: FloatArray, past_local: FloatArray) -> FloatArray:
    """Market price expected at each home for the coming day, currency per kWh.

    The published wholesale day-ahead price, plus the mean of what the home's price differed from the
    wholesale price at that time of day, over up to seven latest days.

    Parameters
    ----------
    published : float64[T], wholesale day-ahead price of each interval of the day.
    past_wholesale : float64[H]; past_local : float64[n, H], up to the start of the day.

    >>> expected_prices(np.array([0.1, 0.2]), np.zeros(0), np.zeros((1, 0))).tolist()
    [[0.1, 0.2]]
    """
    if past_local.shape[1] < PER_DAY:
        return np.tile(published, (len(past_local), 1))
    spread = time_of_day_mean(past_local - past_wholesale, intervals=len(published))
    return np.asarray(published + spread)


def price_statistics(past_prices: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation of the latest 24 hours' prices per row, as the ramp rule needs them.

    >>> mean, deviation = price_statistics(np.array([[0.1, 0.3]]))
    >>> mean.round(6).tolist(), deviation.round(6).tolist()
    ([0.2], [0.1])
    """
    latest = past_prices[:, -PER_DAY:]
    if not latest.shape[1]:
        raise ForecastError("no past price is known; give the published day-ahead prices of the day before")
    return latest.mean(axis=1), latest.std(axis=1)
