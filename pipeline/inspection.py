"""What a file holds, and what ingest would do with it: a look that writes nothing and takes whatever it is given.

Memory is that of a batch, of the names of the points, and of the stretches without a gap.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.errors import BadFileError, MeterveilError
from pipeline.feeds import read_feed
from pipeline.reading import validate_split
from pipeline.sources.base import ReadOptions
from pipeline.sources.registry import plan_file
from pipeline.totals import Totals, add_totals
from schemas.reference import REFERENCE_FEEDS
from schemas.series import DAY_S
from schemas.status import STATUS_WORDS
from transforms.calendar import US_PER_S, LocalCalendar
from transforms.coverage import Coverage, add_coverage, cover
from transforms.identifiers import judge_identifiers
from transforms.rejected import render_field

#: Stands for the metering point of a file that names none and for which none is given.
UNNAMED = "UNNAMED"
_IDENTIFIERS = ("metering_point_id", "identity_code", "business_id")


@dataclass(slots=True)
class _Look:
    """What was found so far in a file of readings."""

    format: str = ""
    parts: int = 0
    totals: list[Totals] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    layers: Counter[tuple[str, int]] = field(default_factory=Counter)
    days: set[int] = field(default_factory=set)
    coverage: Coverage | None = None
    problem: str | None = None


def inspect_file(path: str, options: ReadOptions, calendar: LocalCalendar, *, identifiers: bool) -> dict[str, Any]:
    """Say what a file holds.

    Args:
        path: a file of readings of any format, or a reference feed, which is known by its name.
        options: how to read it. Where the file does not say when its values were registered or of which point they
            are, and the options neither, it is looked at all the same, and ``problem`` says what ingest would miss.
        calendar: local days of the lake that it would go to.
        identifiers: also list the metering points; without it, the result holds no identifier.

    Raises:
        MeterveilError: there is no such file, or an option is wrong.
    """
    if not Path(path).is_file():
        raise MeterveilError("there is no such file", where=path, remedy="check the path")
    found: dict[str, Any] = {"name": Path(path).name, "bytes": Path(path).stat().st_size}
    if Path(path).stem in REFERENCE_FEEDS:
        return found | _inspect_feed(Path(path))
    now = datetime.now(UTC).isoformat()
    if options.registered_at == "now":
        options = replace(options, registered_at=now)
    look = _look_at(path, options, calendar)
    if look.problem:
        whole = replace(
            options,
            registered_at=options.registered_at or now,
            metering_point=options.metering_point or UNNAMED,
        )
        second = _look_at(path, whole, calendar)
        look = look if second.problem else replace(second, problem=look.problem)
    return found | _describe(look, calendar, identifiers=identifiers)


def _look_at(path: str, options: ReadOptions, calendar: LocalCalendar) -> _Look:
    look = _Look()
    try:
        splits = plan_file(path, options)
        look.parts = len(splits)
        for split in splits:
            look.format = split.format
            for valid, pieces, _, totals in validate_split(split, options, calendar):
                _add(look, valid, totals, calendar)
                look.days.update(np.unique(pieces.day).tolist())
    except BadFileError as error:
        look.problem = str(error)
    except MeterveilError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a file makes a reader trip over is a finding about that file
        look.problem = f"{type(error).__name__} while reading it, which nobody foresaw"
    return look


def _add(look: _Look, valid: pa.RecordBatch, totals: Totals, calendar: LocalCalendar) -> None:
    look.totals.append(totals)
    lengths = np.diff(valid.column("energy").offsets.to_numpy())
    counts = np.bincount(valid.column("status").flatten().to_numpy(), minlength=len(STATUS_WORDS))
    look.statuses.update({word: int(count) for word, count in zip(STATUS_WORDS, counts, strict=True) if count})
    layers = pa.table([valid.column("product"), valid.column("resolution_s"), pa.array(lengths)], ["p", "r", "n"])
    for layer in layers.group_by(["p", "r"]).aggregate([("n", "sum")]).to_pylist():
        look.layers[layer["p"], layer["r"]] += layer["n_sum"]
    covered = cover(valid, calendar)
    look.coverage = add_coverage(look.coverage, covered) if look.coverage else covered


def _describe(look: _Look, calendar: LocalCalendar, *, identifiers: bool) -> dict[str, Any]:
    totals = add_totals(look.totals)
    accepted = sum(look.layers.values())
    described: dict[str, Any] = {
        "format": look.format or None,
        "problem": look.problem,
        "parts": look.parts,
        "readings": {
            "delivered": totals.count("delivered"),
            "accepted": accepted,
            "quarantined": {reason: totals.count(f"quarantined:{reason}") for reason in totals.by_kind("quarantined")},
        },
        "kwh": str(render_field("energy", pa.array([totals.energy("delivered")]))[0]),
        "statuses": dict(look.statuses),
        "layers": [
            {"product": product, "resolution": _say_resolution(seconds), "readings": count}
            for (product, seconds), count in sorted(look.layers.items())
        ],
        "time_zone": calendar.time_zone,
        "local_days": len(look.days),
    }
    coverage = look.coverage
    if coverage is None or not accepted:
        return described
    gaps, firsts = coverage.gaps, coverage.firsts
    points = coverage.point.take(pa.array(firsts)).cast(pa.string())
    described |= {
        "points": len(points.unique()),
        "check_digits": judge_identifiers("metering_point_id", points),
        "first": _say_time(int(_as_instants(coverage.start, coverage, calendar).min())),
        "end": _say_time(int(_as_instants(coverage.end, coverage, calendar).max())),
        "gaps": {"stretches": int((gaps > 0).sum()), "readings": int(gaps.sum())},
        "repeated": accepted - int(coverage.readings.sum()),
    }
    if identifiers:
        described["streams"] = list(_list_streams(coverage, calendar))
    return described


def _list_streams(coverage: Coverage, calendar: LocalCalendar) -> Iterator[dict[str, Any]]:
    firsts = coverage.firsts
    lasts = np.append(firsts[1:], len(coverage.start)) - 1
    gaps, readings = (np.add.reduceat(counts, firsts) for counts in (coverage.gaps, coverage.readings))
    begins = _as_instants(coverage.start, coverage, calendar)[firsts]
    ends = _as_instants(coverage.end, coverage, calendar)[lasts]
    taken = pa.array(firsts)
    points, products = (column.take(taken).to_pylist() for column in (coverage.point, coverage.product))
    for place, first in enumerate(firsts):
        yield {
            "metering_point_id": points[place],
            "product": products[place],
            "resolution": _say_resolution(int(coverage.resolution_s[first])),
            "first": _say_time(int(begins[place])),
            "end": _say_time(int(ends[place])),
            "slots": int(readings[place]),
            "missing": int(gaps[place]),
        }


def _as_instants(seconds: NDArray[np.int64], coverage: Coverage, calendar: LocalCalendar) -> NDArray[np.int64]:
    """Give borders of stretches as seconds since 1970 UTC; those of daily values begin at local midnight."""
    instants = seconds.copy()
    daily = coverage.resolution_s == DAY_S
    instants[daily] = calendar.start_of(seconds[daily] // DAY_S) // US_PER_S
    return instants


def _inspect_feed(path: Path) -> dict[str, Any]:
    rows, checked, problem = 0, {}, None
    columns: dict[str, list[pa.Array]] = {}
    try:
        for batch in read_feed(path.stem, path):
            rows += batch.num_rows
            for name in set(_IDENTIFIERS) & set(batch.schema.names):
                columns.setdefault(name, []).append(batch.column(name).cast(pa.string()).unique())
    except MeterveilError as error:
        problem = str(error)
    except Exception as error:  # noqa: BLE001 - as for readings
        problem = f"{type(error).__name__} while reading it, which nobody foresaw"
    for name, parts in sorted(columns.items()):
        checked[name] = judge_identifiers(name, pc.unique(pa.chunked_array(parts)))
    return {"format": f"reference: {path.stem}", "problem": problem, "rows": rows, "check_digits": checked}


def _say_resolution(seconds: int) -> str:
    return str(render_field("resolution", pa.array([seconds]))[0])


def _say_time(seconds: int) -> str:
    return f"{datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%SZ}"
