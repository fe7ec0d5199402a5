"""How much energy a metering point uses or feeds in, by day, week, year and weather."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.fleet.days import LocalDay
from pipeline.fleet.draws import draw_below, draw_noise, draw_uniform

_LATITUDE = np.radians(61.0)
#: The mean longitude of Finland, 25° E, as hours that its solar time is ahead of UTC.
_SOLAR_AHEAD_H = 25 / 15
_COMFORT_C = 17.0
_CAR_CHARGER_W = 3_700.0
#: The greatest share of what the main fuse carries that an ordinary reading reaches.
_FUSE_SHARE = 0.9
_WATT_PER_AMPERE = 3 * 230


@dataclass(frozen=True, slots=True)
class Archetype:
    """A kind of metering point; powers in watts.

    Attributes:
        name: what it is called.
        building_type: of its usage site.
        heating: of its usage site.
        fuses_a: main fuses that occur, ampere per phase.
        base: always on.
        morning: peak around half past seven.
        working: from eight to five.
        evening: peak around seven.
        heat_per_degree: heating for each degree below 17 °C.
        weekend: factor of everything but base and heating at weekends.
    """

    name: str
    building_type: str
    heating: str
    fuses_a: tuple[int, ...]
    base: float
    morning: float
    working: float
    evening: float
    heat_per_degree: float
    weekend: float


APARTMENT, HEATED, STORAGE, CAR, SOLAR, OFFICE, PLANT = range(7)

ARCHETYPES = (
    Archetype("apartment", "apartment_building", "district", (25,), 90, 250, 60, 500, 0, 1.2),
    Archetype("electric heating", "detached_house", "electric", (25, 35), 200, 500, 150, 900, 130, 1.15),
    Archetype("night storage", "detached_house", "storage", (35, 50), 200, 450, 120, 800, 140, 1.15),
    Archetype("electric car", "detached_house", "ground_source", (25, 35), 250, 500, 200, 900, 50, 1.1),
    Archetype("solar panels", "detached_house", "ground_source", (25, 35), 200, 450, 150, 850, 50, 1.15),
    Archetype("office", "office_building", "district", (63, 100, 160), 2_000, 0, 9_000, 500, 0, 0.15),
    Archetype("solar plant", "detached_house", "ground_source", (25, 35), 0, 0, 0, 0, 0, 1.0),
)


def fuse_limit(fuse_a: npt.NDArray[np.int64], seconds: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """What three phases of 230 V carry in an interval, in milliwatt-hours; exact for whole quarter-hours."""
    return fuse_a * _WATT_PER_AMPERE * np.asarray(seconds, dtype=np.int64) * 10 // 36


def shape_day(seed: int, day: LocalDay) -> npt.NDArray[np.float32]:
    """Shape every archetype's day: mean power in watts, ``[archetype, quarter-hour]``."""
    clock, weekend = day.clock, day.date.weekday() >= 5
    sun = _shape_sun(seed, day)
    cold = np.maximum(0.0, _COMFORT_C - _shape_temperature(seed, day))
    night = (clock >= 22) | (clock < 6)
    shapes = []
    for index, kind in enumerate(ARCHETYPES):
        activity = (
            kind.morning * _bump(clock, 7.5, 1.3)
            + kind.working * ((clock >= 8) & (clock < 17))
            + kind.evening * _bump(clock, 19.0, 2.4)
        )
        heating = kind.heat_per_degree * cold
        if index == STORAGE:  # a whole day's heat is taken in the eight hours of the night
            heating = np.where(night, heating * 3, 0.0)
        shape = kind.base + activity * (kind.weekend if weekend else 1.0) + heating
        if index == SOLAR:  # uses some of what it makes before the meter sees it
            shape = shape * (1 - 0.6 * sun)
        if index == PLANT:
            shape = 5_000 * sun
        shapes.append(shape)
    return np.array(shapes, dtype=np.float32)


def measure_energy(
    seed: int,
    day: LocalDay,
    points: npt.NDArray[np.int64],
    archetype: npt.NDArray[np.int8],
    fuse_a: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]:
    """Measure a block of points for a day, in milliwatt-hours, ``[point, column of the day]``.

    Most meters count in steps of 1 Wh, one of five in 10 Wh. The hours and the day are the sums of their quarters.
    """
    scale = 0.4 + 1.6 * draw_uniform(seed, "scale", points) ** 2
    power = shape_day(seed, day)[archetype]
    power *= scale.astype(np.float32)[:, None]
    noise = draw_noise(seed, f"noise {day.date}", points, power.shape[1])
    noise += np.float32(0.5)
    power *= noise
    _charge_cars(seed, day, points, archetype, power)
    ceiling = (fuse_limit(fuse_a, 3600) / 1000 * _FUSE_SHARE).astype(np.float32)
    np.minimum(power, ceiling[:, None], out=power)
    quarters = (power * np.float32(0.25)).astype(np.int64)
    coarse = draw_below(5, seed, "step", points) == 0
    quarters[coarse] -= quarters[coarse] % 10
    quarters *= 1000
    hours = quarters[:, 0::4] + quarters[:, 1::4] + quarters[:, 2::4] + quarters[:, 3::4]
    return np.concatenate([hours, quarters, hours.sum(axis=1, keepdims=True)], axis=1)


def _charge_cars(
    seed: int,
    day: LocalDay,
    points: npt.NDArray[np.int64],
    archetype: npt.NDArray[np.int8],
    power: npt.NDArray[np.float32],
) -> None:
    charging = np.flatnonzero((archetype == CAR) & (draw_uniform(seed, f"plugged {day.date}", points) < 0.6))
    plugged = 16 + draw_uniform(seed, f"from {day.date}", points[charging])[:, None] * 5
    unplugged = plugged + 1 + draw_uniform(seed, f"for {day.date}", points[charging])[:, None] * 4
    power[charging] += np.where((day.clock >= plugged) & (day.clock < unplugged), np.float32(_CAR_CHARGER_W), 0)


def _shape_temperature(seed: int, day: LocalDay) -> npt.NDArray[np.float64]:
    season = np.cos(2 * np.pi * (day.date.timetuple().tm_yday - 200) / 365.25)
    weather = 8 * (draw_uniform(seed, "weather", day.number)[0] - 0.5)
    return np.asarray(4.5 + 13 * season + weather + 3 * np.cos(2 * np.pi * (day.clock - 15) / 24))


def _shape_sun(seed: int, day: LocalDay) -> npt.NDArray[np.float64]:
    declination = np.radians(23.44) * np.sin(2 * np.pi * (day.date.timetuple().tm_yday - 80) / 365.25)
    solar_h = day.column_starts[day.hours : -1] / 3600 % 24 + _SOLAR_AHEAD_H
    height = np.sin(_LATITUDE) * np.sin(declination) + np.cos(_LATITUDE) * np.cos(declination) * np.cos(
        np.pi * (solar_h - 12) / 12
    )
    clouds = 0.3 + 0.7 * draw_uniform(seed, "clouds", day.number)[0]
    return np.asarray(np.maximum(0.0, height) * clouds)


def _bump(clock: npt.NDArray[np.float64], centre: float, width: float) -> npt.NDArray[np.float64]:
    return np.asarray(np.exp(-0.5 * ((clock - centre) / width) ** 2))
