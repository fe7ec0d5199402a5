"""What a right pipeline must end with, counted from the list of deliveries by code that shares nothing with it."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.fleet.days import HOUR_S, QUARTER_S, LocalDay
from pipeline.fleet.deliveries import Rows, Wave, code_reason, name_reason
from pipeline.fleet.load import fuse_limit
from pipeline.fleet.reference import Fleet, name_numbers, resolve_customers
from schemas.reasons import Reason
from schemas.series import DAY_S
from schemas.status import Status

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

#: Nobody knows the fuse of a point that the reference does not know.
_NO_LIMIT = np.iinfo(np.int64).max
#: Moves that the truth tells one by one.
_MOVES_TOLD = 20
_FLAGS = (
    "conflicting_duplicate",
    "negative",
    "above_fuse",
    "check_digit",
    "no_contract",
    "unknown_point",
    "overlapping_contracts",
)
_SUPERSEDED = ("identical", "conflicting", "older", "other_resolution")
_DIRECTIONS = ("consumption", "production")
#: Their energy could not be decoded: it counts as 0 wherever they are counted.
_WITHOUT_ENERGY = [code_reason(Reason.BAD_ENERGY), code_reason(Reason.UNREADABLE_ROW)]


@dataclass(slots=True)
class Total:
    """A number of readings and the sum of their energy in milliwatt-hours."""

    count: int = 0
    energy_mwh: int = 0

    def add(self, count: npt.ArrayLike, energy: npt.ArrayLike) -> None:
        """Count readings: how many, and their energy; numbers, or arrays of parts."""
        self.count += int(np.sum(count))
        self.energy_mwh += int(np.sum(energy))

    def tell(self) -> dict[str, int]:
        """Return the total as it stands in the truth."""
        return {"count": self.count, "energy_mwh": self.energy_mwh}


@dataclass(frozen=True, eq=False)
class _Runs:
    """Rows beside each other of one point and resolution; all arrays are ``[run]``.

    Whatever holds for a point is found once a run, not once a row. A point may have several runs.

    Attributes:
        point: index in the fleet.
        resolution: seconds.
        count: how many rows.
        energy: sum of their energy.
    """

    point: Ints
    resolution: Ints
    count: Ints
    energy: Ints

    @classmethod
    def find(cls, rows: Rows) -> "_Runs":
        """Find the runs of rows in the order given."""
        point, resolution = rows["point"], rows["resolution"]
        differs = (point[1:] != point[:-1]) | (resolution[1:] != resolution[:-1])
        firsts = np.flatnonzero(np.append(np.ones(min(1, len(rows)), dtype=np.bool_), differs))
        energy = np.add.reduceat(rows["energy"], firsts) if len(rows) else rows["energy"]
        return cls(point[firsts], resolution[firsts].astype(np.int64), np.diff(firsts, append=len(rows)), energy)

    def add_to(self, total: Total, chosen: Bools) -> None:
        """Add the chosen runs to a total."""
        total.add(self.count[chosen], self.energy[chosen])


@dataclass(frozen=True, eq=False)
class _Outcome:
    """What became of contested rows: what ``superseded`` each (empty: it is final) and which winners had a conflict."""

    superseded: npt.NDArray[np.str_]
    conflicting: Bools


@dataclass(eq=False)
class Truth:
    """Counts what was delivered and what must become of it, block by block.

    Attributes:
        fleet: the fleet.
    """

    fleet: Fleet
    delivered: Total = field(default_factory=Total)
    final: Total = field(default_factory=Total)
    superseded: dict[str, Total] = field(default_factory=lambda: {kind: Total() for kind in _SUPERSEDED})
    quarantined: defaultdict[str, Total] = field(default_factory=lambda: defaultdict(Total))
    statuses: Counter[str] = field(default_factory=Counter)
    flags: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(_FLAGS, 0)))
    dates: dict[str, dict[str, Any]] = field(default_factory=dict)
    moves: dict[tuple[int, int], Total] = field(default_factory=lambda: defaultdict(Total))

    def __post_init__(self) -> None:
        older, newer = self.fleet.contracts
        moved = np.flatnonzero((newer.customer >= 0) & (older.valid_to <= newer.valid_from) & self.fleet.known)
        self._told = moved[:_MOVES_TOLD]

    def count_deliveries(self, day: LocalDay, waves: dict[Wave, Rows]) -> None:
        """Count everything that is delivered of a block of points for a local day; the first wave is among it."""
        for rows in waves.values():
            self._count_delivered(rows)
        first = waves[Wave.FIRST]
        again = [first["point"][first["layer"] > 0], *(rows["point"] for wave, rows in waves.items() if wave)]
        contested = _find_points(first["point"], np.concatenate(again))
        settled = {**waves, Wave.FIRST: first.take(np.flatnonzero(contested))}
        rows = np.concatenate(list(settled.values()))
        registered = np.repeat([wave.register(day) for wave in settled], [len(part) for part in settled.values()])
        sound = rows["spoiled"] == 0
        outcome = _settle(rows[sound], registered[sound], day)
        final = outcome.superseded == ""
        for kind, total in self.superseded.items():
            lost = rows["energy"][sound][outcome.superseded == kind]
            total.add(len(lost), lost)
        self.flags["conflicting_duplicate"] += int(np.count_nonzero(outcome.conflicting & final))
        plain = ~contested & (first["spoiled"] == 0)
        self._count_final(day, first if plain.all() else first.take(np.flatnonzero(plain)))
        self._count_final(day, rows[sound][final])

    def _count_delivered(self, rows: Rows) -> None:
        aside = rows[rows["spoiled"] > 0]
        lost = np.isin(aside["spoiled"], _WITHOUT_ENERGY)
        energy = np.where(lost, 0, aside["energy"])
        self.delivered.add(len(rows), rows["energy"].sum() - aside["energy"][lost].sum())
        for code in np.unique(aside["spoiled"]):
            of_code = energy[aside["spoiled"] == code]
            self.quarantined[name_reason(int(code))].add(len(of_code), of_code)

    def _count_final(self, day: LocalDay, rows: Rows) -> None:
        fleet, runs = self.fleet, _Runs.find(rows)
        self.final.add(runs.count, runs.energy)
        for code, count in enumerate(np.bincount(rows["status"], minlength=len(Status))):
            self.statuses[Status(code).name] += int(count)

        point = runs.point
        customer, overlapping = resolve_customers(fleet, point, day.number)
        known, producing = fleet.known[point], fleet.producing[point]
        seconds = np.where(runs.resolution == DAY_S, day.end - day.start, runs.resolution)
        limit = np.where(known, fuse_limit(fleet.fuse_a[point], seconds), _NO_LIMIT)
        self.flags["negative"] += int(np.count_nonzero(rows["energy"] < 0))
        self.flags["above_fuse"] += int(np.count_nonzero(rows["energy"] > np.repeat(limit, runs.count)))
        for flag, marked in (
            ("check_digit", fleet.wrong_digit[point] | fleet.shortened[point]),
            ("no_contract", known & (customer < 0)),
            ("unknown_point", ~known),
            ("overlapping_contracts", overlapping),
        ):
            self.flags[flag] += int(runs.count[marked].sum())

        told = self.dates.setdefault(
            day.date.isoformat(),
            {
                **{direction: Total() for direction in _DIRECTIONS},
                "with_customer": Total(),
                "without_customer": Total(),
                "customer_number_sum": 0,
            },
        )
        held = customer >= 0
        for name, chosen in zip(
            (*_DIRECTIONS, "with_customer", "without_customer"), (~producing, producing, held, ~held), strict=True
        ):
            runs.add_to(told[name], chosen)
        told["customer_number_sum"] += int((customer * runs.count)[held].sum())
        for moved in np.flatnonzero(np.isin(point, self._told)):
            self.moves[int(point[moved]), int(customer[moved])].add(runs.count[moved], runs.energy[moved])

    def tell(self) -> dict[str, Any]:
        """Return the truth as JSON-ready values; every number is exact."""
        return {
            "readings_delivered": self.delivered.count,
            "energy_delivered_mwh": self.delivered.energy_mwh,
            "rows_final": self.final.count,
            "energy_final_mwh": self.final.energy_mwh,
            "superseded": _add_up(self.superseded.values()).tell(),
            "superseded_by_kind": {kind: total.tell() for kind, total in self.superseded.items()},
            "quarantined": {reason: total.tell() for reason, total in sorted(self.quarantined.items())},
            "status": dict(self.statuses),
            "flags": dict(self.flags),
            "dates": {
                local_date: {
                    **_add_up(told[direction] for direction in _DIRECTIONS).tell(),
                    **{name: part.tell() if isinstance(part, Total) else part for name, part in told.items()},
                }
                for local_date, told in sorted(self.dates.items())
            },
            "moves": [self._tell_move(int(point)) for point in self._told],
        }

    def _tell_move(self, point: int) -> dict[str, Any]:
        older, newer = self.fleet.contracts
        number = np.array([point])
        return {
            "metering_point_id": self.fleet.name_points(number)[0].as_py(),
            "moved_out": str(older.valid_to[number].astype("datetime64[D]")[0]),
            "moved_in": str(newer.valid_from[number].astype("datetime64[D]")[0]),
            **{
                side: {
                    "customer_id": name_numbers("C", contracts.customer[number])[0].as_py(),
                    **self.moves[point, int(contracts.customer[point])].tell(),
                }
                for side, contracts in (("old", older), ("new", newer))
            },
        }


def _add_up(totals: Any) -> Total:
    parts = list(totals)
    return Total(sum(part.count for part in parts), sum(part.energy_mwh for part in parts))


def _find_points(point: Ints, sought: Ints) -> Bools:
    """Tell which of the rows' points are among those sought, all of one block."""
    if not len(point) or not len(sought):
        return np.zeros(len(point), dtype=np.bool_)
    marked = np.zeros(max(point.max(), sought.max()) + 1 - point.min(), dtype=np.bool_)
    marked[sought[sought >= point.min()] - point.min()] = True
    return np.asarray(marked[point - point.min()])


def _number_points(point: Ints) -> tuple[Ints, Ints]:
    """Return the distinct points, ascending, and the place of each row's point among them."""
    if not len(point):
        return point, point
    seen = np.zeros(point.max() - point.min() + 1, dtype=np.int64)
    seen[point - point.min()] = 1
    return np.flatnonzero(seen) + point.min(), (np.cumsum(seen) - 1)[point - point.min()]


def _settle(rows: Rows, registered: Ints, day: LocalDay) -> _Outcome:
    """Settle rows of one day: the latest registration wins, and an hour at two resolutions counts once."""
    kind = np.full(len(rows), "", dtype="U16")
    conflicting = np.zeros(len(rows), dtype=np.bool_)
    order = np.lexsort((rows["energy"], rows["status"], registered, rows["resolution"], rows["start"], rows["point"]))
    winner = np.empty(len(rows), dtype=np.int64)
    keys = rows[["point", "start", "resolution"]][order]
    last = np.append(keys[1:] != keys[:-1], np.ones(min(1, len(keys)), dtype=np.bool_))
    ends = np.flatnonzero(last)
    winner[order] = np.repeat(order[ends], np.diff(ends, prepend=-1))

    loses = winner != np.arange(len(rows))
    tied = loses & (registered == registered[winner])
    same = tied & (rows["status"] == rows["status"][winner]) & (rows["energy"] == rows["energy"][winner])
    kind[loses] = "older"
    kind[tied] = "conflicting"
    kind[same] = "identical"
    conflicting[winner[tied & ~same]] = True
    kind[~loses & _lose_to_other_resolution(rows, registered, day)] = "other_resolution"
    return _Outcome(kind, conflicting)


def _lose_to_other_resolution(rows: Rows, registered: Ints, day: LocalDay) -> Bools:
    """Tell which rows overlap an hour (a day, for daily values) where another resolution was registered later."""
    points, at = _number_points(rows["point"])
    hour = (rows["start"] - day.start) // HOUR_S
    resolutions = (QUARTER_S, HOUR_S, DAY_S)
    latest = np.full((len(resolutions), len(points), day.hours), -1)
    for index, resolution in enumerate(resolutions):
        these = rows["resolution"] == resolution
        np.maximum.at(latest[index], (at[these], hour[these]), registered[these])
    latest[2] = latest[2][:, :1]  # a daily value starts in the first hour and fills them all

    loses = np.zeros(len(rows), dtype=np.bool_)
    for index, resolution in enumerate(resolutions):
        these = np.flatnonzero(rows["resolution"] == resolution)
        for other in set(range(len(resolutions))) - {index}:
            rival = (
                latest[other].max(axis=1)[at[these]] if resolution == DAY_S else latest[other][at[these], hour[these]]
            )
            later = rival > registered[these]
            tie_lost = (rival == registered[these]) & (resolutions[other] < resolution)
            loses[these] |= later | tie_lost
    return loses
