"""Sums of hours over usage sites by area: from cells, over buckets, to a table under disclosure control."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.series import DAY_S
from schemas.status import Status
from schemas.views import AREA_HOURS
from transforms.calendar import US_PER_S, LocalCalendar
from transforms.decimals import as_decimal
from transforms.derive import Points
from transforms.disclosure import REASONS, Groups, suppress
from transforms.grid import CellGrids
from transforms.plan import Disclosure

Ints = npt.NDArray[np.int64]

_HOUR_S = 3600
_AREA = ("municipality", "postal_code")
_KEYS = (*_AREA, "product", "direction", "hour")
#: Partial sums: of an area without ``site``, or of one site that has points in other buckets too. ``hour`` counts the
#: hours of the local day from 0; ``size`` is the sum of the sites' absolute values and ``top`` the greatest of them,
#: all in milliwatt-hours.
PARTIAL_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("municipality", "postal_code", "product", "direction", "site")),
        *((name, pa.int64()) for name in ("hour", "sites", "energy", "size", "top")),
    ]
)
_HOW = {"sites": "sum", "energy": "sum", "size": "sum", "top": "max"}


def sum_areas(cell: CellGrids, points: Points, calendar: LocalCalendar, spread: npt.NDArray[np.bool_]) -> pa.Table:
    """Sum the hours of a cell by area, product and direction.

    A site is where its first point is. Sites whose place is not known are left out; so are values of whole days.

    Args:
        cell: merged grids.
        points: its points on its date, with their sites.
        calendar: local days of the lake.
        spread: of each point, whether its site may have points in other buckets.

    Returns:
        Rows of ``PARTIAL_SCHEMA``.
    """
    hours = calendar.slots_of(cell.local_date, _HOUR_S)
    of = pa.table({name: points.attribute(name) for name in ("site_id", "direction", *_AREA)})
    encoded = of.append_column("n", pa.array(np.arange(len(of)))).group_by(["site_id", "direction"])
    first = encoded.aggregate([("n", "min")])
    sites = of.take(first["n_min"]).append_column("spread", pa.array(spread).take(first["n_min"].combine_chunks()))
    site = _find_rows(of.select(["site_id", "direction"]), sites.select(["site_id", "direction"]))
    placed = pc.and_(sites["municipality"].is_valid(), sites["postal_code"].is_valid()).to_numpy()
    parts = []
    for product in sorted({product for product, _ in cell.grids}):
        energy, seen = np.zeros((len(sites), hours), np.int64), np.zeros((len(sites), hours), bool)
        for (_, resolution), grid in (item for item in cell.grids.items() if item[0][0] == product):
            if resolution == DAY_S or _HOUR_S % resolution:
                continue
            shape = (-1, hours, _HOUR_S // resolution)
            at = site[points.place[grid.points]]
            np.add.at(energy, at, grid.energy.reshape(shape).sum(axis=2))
            np.logical_or.at(seen, at, (grid.status > Status.MISSING).reshape(shape).any(axis=2))
        rows, hour = np.nonzero(seen & placed[:, None])
        values = energy[rows, hour]
        taken = sites.take(pa.array(rows))
        parts.append(
            _merge(
                pa.table(
                    [
                        *(taken[name] for name in _AREA),
                        pa.array(np.full(len(rows), product), pa.string()),
                        taken["direction"].cast(pa.string()),
                        pc.if_else(taken["spread"], taken["site_id"], pa.scalar(None, pa.string())),
                        *(
                            pa.array(values)
                            for values in (hour, np.ones_like(values), values, abs(values), abs(values))
                        ),
                    ],
                    schema=PARTIAL_SCHEMA,
                ),
                [*_KEYS, "site"],
            )
        )
    return pa.concat_tables([PARTIAL_SCHEMA.empty_table(), *parts])


def merge_areas(partials: Iterable[pa.Table]) -> pa.Table:
    """Merge the partial sums of all buckets of a day: a row for each of ``_KEYS``, sorted, without ``site``."""
    every = pa.concat_tables([PARTIAL_SCHEMA.empty_table(), *partials])
    spread = every.filter(every["site"].is_valid())
    # A site is in one place, the first by name, whatever its points say; its value is the sum of them.
    homes = spread.sort_by([(name, "ascending") for name in _AREA]).group_by("site", use_threads=False)
    homes = homes.aggregate([(name, "first") for name in _AREA])
    at = pc.index_in(spread["site"], homes["site"].combine_chunks())
    for name in _AREA:
        spread = spread.set_column(spread.column_names.index(name), name, homes[f"{name}_first"].take(at))
    whole = spread.group_by([*_KEYS, "site"]).aggregate([("energy", "sum")])
    size = pc.abs(whole["energy_sum"])
    single = whole.select(_KEYS)
    for name, values in (
        ("sites", pa.repeat(1, len(whole))),
        ("energy", whole["energy_sum"]),
        ("size", size),
        ("top", size),
    ):
        single = single.append_column(name, values)
    names = [*_KEYS, *_HOW]
    merged = _merge(
        pa.concat_tables([every.filter(every["site"].is_null()).select(names), single.select(names)]), _KEYS
    )
    return merged.select(names).sort_by([(name, "ascending") for name in _KEYS])


def protect_areas(merged: pa.Table, local_date: int, calendar: LocalCalendar, rule: Disclosure) -> dict[str, pa.Array]:
    """Make the view ``area_hours`` of a day, with what may not be shown suppressed.

    An area that has too few sites in one of its hours is taken to have so few in all: who belongs to it shows in
    the others.

    Args:
        merged: of ``merge_areas``.
        local_date: days since 1970-01-01.
        calendar: local days of the lake.
        rule: when a sum may be shown.

    Returns:
        Columns of ``schemas.views.AREA_HOURS``, sorted by product, direction, hour, level and area.
    """
    columns = {name: merged[name].combine_chunks() for name in merged.column_names}
    series = _number([columns["product"], columns["direction"]])
    municipality, hour = _number([columns["municipality"]]), columns["hour"].to_numpy()
    area = _number([columns[name] for name in ("municipality", "postal_code", "product", "direction")])
    values = {name: columns[name].to_numpy() for name in _HOW}
    weakest = np.full(area.max(initial=-1) + 1, np.iinfo(np.int64).max)
    np.minimum.at(weakest, area, values["sites"])
    groups = Groups(weakest[area], values["size"], values["top"])
    _, table = np.unique(np.stack([series, hour]), axis=1, return_inverse=True)
    table = table.ravel()
    found = suppress(table, municipality, groups, rule)
    of = found.municipality
    level_of = np.repeat(np.arange(3), [len(found.wholes), len(found.municipalities), len(table)])
    example = np.concatenate([_first_of(table), _first_of(of), np.arange(len(table))])
    sums = {
        name: np.concatenate([_add_to(table, values[name]), _add_to(of, values[name]), values[name]])
        for name in ("sites", "energy")
    }
    reasons = np.concatenate([found.wholes, found.municipalities, found.areas])
    order = np.lexsort((example, level_of, hour[example], series[example]))
    hidden = reasons[order] != 0
    level, at = level_of[order], pa.array(example[order])
    starts = int(calendar.start_of(np.array([local_date]))[0]) + hour[example[order]] * _HOUR_S * US_PER_S
    sites, energy = (sums[name][order] for name in ("sites", "energy"))

    def show(what: Ints, name: str) -> pa.Array:
        shown = pa.array(what, mask=hidden)
        return as_decimal(shown, AREA_HOURS[name].type) if pa.types.is_decimal(AREA_HOURS[name].type) else shown

    def named(name: str, least: int) -> pa.Array:
        return pc.if_else(pa.array(level >= least), columns[name].take(at), pa.scalar(None, pa.string()))

    return {
        "level": pa.array(["all", "municipality", "postal_area"]).take(pa.array(level)),
        "municipality_name": named("municipality", 1),
        "postal_area": named("postal_code", 2),
        "product": columns["product"].take(at),
        "direction": columns["direction"].take(at),
        "local_date": pa.array(np.full(len(at), local_date, np.int32)).view(pa.date32()),
        "start": pa.array(starts).view(pa.timestamp("us", tz="UTC")),
        "sites": show(sites, "sites"),
        "energy": show(energy, "energy"),
        "mean": show(energy // np.maximum(sites, 1), "mean"),
        "suppressed": pa.array([reason or None for reason in REASONS]).take(pa.array(reasons[order])),
    }


def _merge(rows: pa.Table, keys: Iterable[str]) -> pa.Table:
    merged = rows.group_by(list(keys)).aggregate(list(_HOW.items()))
    merged = merged.rename_columns({f"{name}_{how}": name for name, how in _HOW.items()})
    return merged.select([name for name in PARTIAL_SCHEMA.names if name in merged.column_names])


def _find_rows(rows: pa.Table, distinct: pa.Table) -> Ints:
    """Find the place of each row among distinct ones."""
    both = pa.concat_tables([distinct, rows])
    number = _number([both[name].combine_chunks() for name in both.column_names])
    place = np.zeros(number.max(initial=-1) + 1, np.int64)
    place[number[: len(distinct)]] = np.arange(len(distinct))
    return place[number[len(distinct) :]]


def _number(columns: Iterable[pa.Array]) -> Ints:
    """Number rows so that equal ones have the same number, in the order of their values."""
    number: Ints | None = None
    for column in columns:
        plain = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
        distinct = plain.unique().sort()
        place = pc.index_in(plain, distinct).to_numpy().astype(np.int64)
        number = place if number is None else number * (len(distinct) + 1) + place
    assert number is not None
    ranked: Ints = np.unique(number, return_inverse=True)[1]
    return ranked


def _add_to(group: Ints, values: Ints) -> Ints:
    sums = np.zeros(group.max(initial=-1) + 1, np.int64)
    np.add.at(sums, group, values)
    return sums


def _first_of(group: Ints) -> Ints:
    """Find the first row of each group; groups are numbered without gaps."""
    return np.unique(group, return_index=True)[1]
