import numpy as np
import pytest

from tellegen.agents.forecast import (
    ForecastError,
    day_ahead_forecast,
    error_persistence,
    expected_prices,
    known_days,
    real_time_forecast,
    time_of_day_mean,
)


def weekly_homes(days=29, homes=20, seed=3):
    """Loads with a time of day, a day of the week and a level that wanders from day to day."""
    rng = np.random.default_rng(seed)
    hour = np.arange(288) / 12
    shape = 0.3 + np.exp(-0.5 * ((hour - 19) / 2) ** 2)
    weekend = np.where(np.arange(days) % 7 >= 5, 1.6, 1.0)
    level = 1 + np.cumsum(0.15 * rng.standard_normal((homes, days)), axis=1)
    clean = np.maximum(level, 0.2)[:, :, None] * weekend[None, :, None] * shape
    return (clean * rng.uniform(0.7, 1.3, clean.shape)).reshape(homes, -1)


def test_the_forecast_beats_the_time_of_day_mean():
    """Mean absolute error over every day of the week."""
    errors = []
    for seed in range(3):
        series = weekly_homes(days=35, seed=seed)
        for back in range(7):
            end = series.shape[1] - 288 * back
            past, day = series[:, end - 288 * 29 : end - 288], series[:, end - 288 : end]
            errors.append([np.abs(f(past) - day).mean() for f in (day_ahead_forecast, time_of_day_mean)])
    ridge, mean = np.mean(errors, axis=0)
    assert ridge < 0.95 * mean


def test_the_real_time_forecast_beats_the_day_ahead_forecast():
    series = weekly_homes(homes=6)
    past, day = series[:, :-288], series[:, -288:]
    ahead, keep = day_ahead_forecast(past) * 0.6, error_persistence(past)
    errors = [
        np.abs(real_time_forecast(series[:, : past.shape[1] + k], ahead, known=k, persistence=keep)[:, 0] - day[:, k])
        for k in range(288)
    ]
    assert np.mean(errors) < np.abs(ahead - day).mean()


@pytest.mark.parametrize("lead", [0, 1, 144, 288])
def test_known_days_align_with_the_day_to_come(lead):
    clock = np.arange(10 * 288 - lead, dtype=float)[None] % 288
    assert np.array_equal(known_days(clock, lead)[0, -1], np.arange(288))
    assert np.abs(day_ahead_forecast(clock, lead=lead)[0, 20:-20] - np.arange(288)[20:-20]).max() < 15


def test_night_stays_dark():
    sun = np.maximum(np.sin(np.linspace(-np.pi, np.pi, 288)), 0) * np.random.default_rng(1).uniform(0.2, 1, (20, 1))
    forecast = day_ahead_forecast(sun.reshape(1, -1))
    assert np.all(forecast[0, :144] == 0.0)
    assert forecast.max() <= sun.max()


def test_a_day_of_25_hours_gets_300_intervals():
    assert day_ahead_forecast(np.ones((2, 288 * 12)), intervals=300).shape == (2, 300)
    assert time_of_day_mean(np.ones((2, 288 * 2)), intervals=276).shape == (2, 276)


def test_a_single_day_of_history_is_enough_and_less_is_refused():
    assert np.allclose(day_ahead_forecast(np.full((1, 288), 2.0)), 2.0)
    with pytest.raises(ForecastError, match="no whole day"):
        day_ahead_forecast(np.ones((1, 200)))


def test_prices_are_expected_where_the_wires_put_them():
    """A home whose price was 0.05 above wholesale in the evening is expected to see that again."""
    wholesale = np.full(3 * 288, 0.1)
    local = wholesale + np.where(np.arange(3 * 288) % 288 >= 216, 0.05, 0.0)
    expected = expected_prices(np.full(288, 0.2), wholesale, local[None])
    assert np.allclose(expected[0, :216], 0.2)
    assert np.allclose(expected[0, 216:], 0.25)
