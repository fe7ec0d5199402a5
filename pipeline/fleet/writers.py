"""Writes delivered rows in each of the formats, spoiling what is to be spoiled in the way the format can be."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from itertools import chain
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.fleet.days import HOUR_S, QUARTER_S
from pipeline.fleet.deliveries import Rows, code_reason
from pipeline.fleet.reference import Fleet
from schemas.reasons import Reason
from schemas.series import ACTIVE_ENERGY, DAY_S, MAX_ENERGY, SERIES_SCHEMA
from schemas.status import STATUS_WORDS, Status

_TIME = SERIES_SCHEMA.field("start").type
_ROW_GROUP = 1_000_000
#: Columns that a reader prunes by.
_STATISTICS = ["start"]
#: Columns whose values repeat where zstd alone would not see it.
_DICTIONARIES = ["metering_point_id", "product", "energy"]
_AVRO_BATCH = 10_000
_UNKNOWN_CODE, _UNKNOWN_WORD = 42, "ARVIO2"
_MANGLED_IDS = ("6,43007E+17", "")
_BAD_NUMBERS = ("NaN", "abc", "100000000,000000")
_JUNK_LINE = "###;?"
_CSV_HEADER = "MeteringPointGSRN;Product Type;Resolution;Unit Type;Reading Type;Start Time;Quantity;Quality"
#: What an E66 message says of a reading's quality; that of the others is not said.
_XML_QUALITIES = {
    Status.PARTIAL: "<QQ>Z04</QQ>",
    Status.UNCERTAIN: "<QQ>Z02</QQ>",
    Status.ESTIMATED: "<QQ>99</QQ>",
    Status.REVISED: "<QQ>Z01</QQ>",
}
_XML_HEAD = """<?xml version="1.0" encoding="UTF-8"?>
<soap:Envelope xmlns:soap="http://schemas.xmlsoap.org/soap/envelope/"><soap:Body>
<PeekMessageResponse xmlns="urn:meterveil:generated"><EnergyTimeSeriesMessage><EnergyTimeSeries>
<Header><Identification>{name}</Identification><DocumentType>E66</DocumentType><Creation>{stamp}</Creation>
<RegistrationTimestamp>{stamp}</RegistrationTimestamp></Header>
"""
_XML_SERIES = (
    "<Transaction><ObservationPeriodTimeSeriesPeriod><ResolutionDuration>{resolution}</ResolutionDuration>"
    "<Start>{start}Z</Start><End>{end}Z</End></ObservationPeriodTimeSeriesPeriod>"
    f"<ProductIncludedProductCharacteristic><Identification>{ACTIVE_ENERGY}</Identification><UnitType>kWh</UnitType>"
    "</ProductIncludedProductCharacteristic><MeteringPointUsedDomainLocation>"
    "<Identification>{point}</Identification></MeteringPointUsedDomainLocation>{observations}</Transaction>"
)
_XML_END = """</EnergyTimeSeries></EnergyTimeSeriesMessage></PeekMessageResponse>
</soap:Body></soap:Envelope>
"""
_JSON_HEAD = (
    '{{"RetrieveTimeSeriesData":{{"Header":{{"Identification":"{name}","Creation":"{stamp}",'
    '"DocumentType":"ETS.DIF.RTR"}},"Transaction":{{"TimeSeries":[\n'
)
_JSON_SERIES = (
    '{{"MeteringPointEAN":"{point}","ResolutionDuration":"{resolution}","PeriodStartTS":"{start}Z",'
    f'"PeriodEndTS":"{{end}}Z","ProductType":"{ACTIVE_ENERGY}","UnitType":"kWh","ReadingType":"BN01",'
    '"Observations":[{observations}]}}'
)
_JSON_END = "\n]}}}\n"
_RESOLUTION_WORDS = {QUARTER_S: "PT15M", HOUR_S: "PT1H", DAY_S: "P1D"}


def _require(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


_WORD = pa.dictionary(pa.int32(), pa.string())
_READINGS_SCHEMA = pa.schema(
    [
        _require("metering_point_id", _WORD),
        _require("product", _WORD),
        _require("start", _TIME),
        _require("resolution_s", pa.int32()),
        _require("registered_at", _TIME),
        pa.field("energy", pa.int64()),
        _require("status", pa.int8()),
    ]
)
_SERIES_SCHEMA = pa.schema([field for field in SERIES_SCHEMA if field.name not in ("row", "position")])


@dataclass(frozen=True, eq=False)
class _Part:
    """Some rows of a file, sorted by point, layer and start, and their columns as the integer formats carry them."""

    fleet: Fleet
    rows: Rows
    registered_at: int

    @cached_property
    def point_codes(self) -> npt.NDArray[np.int32]:
        """Index of each row's id in ``ids``."""
        point = self.rows["point"]
        codes = np.cumsum(np.diff(point, prepend=point[:1]) != 0, dtype=np.int32)
        mangled = np.flatnonzero(self.spoiled_by(Reason.MANGLED_IDENTIFIER))
        codes[mangled] = len(self.ids) - len(_MANGLED_IDS) + self.vary(mangled, len(_MANGLED_IDS))
        return codes

    @cached_property
    def ids(self) -> Any:
        """The ids that occur: of the points, in order, then the mangled ones."""
        point = self.rows["point"]
        points = point[np.diff(point, prepend=-1) != 0]
        return pa.concat_arrays([self.fleet.name_points(points), pa.array(_MANGLED_IDS)])

    @cached_property
    def energy(self) -> npt.NDArray[np.int64]:
        """Milliwatt-hours, beyond the bounds where bad."""
        energy = self.rows["energy"].copy()
        bad = np.flatnonzero(self.spoiled_by(Reason.BAD_ENERGY))
        energy[bad] = (MAX_ENERGY + 1) * (1 - 2 * self.vary(bad, 2))
        return np.asarray(energy)

    @cached_property
    def status(self) -> npt.NDArray[np.int8]:
        """Status codes, off the scale where unknown."""
        unknown = self.spoiled_by(Reason.UNKNOWN_STATUS)
        return np.where(unknown, np.int8(_UNKNOWN_CODE), self.rows["status"])

    def spoiled_by(self, reason: Reason) -> npt.NDArray[np.bool_]:
        return np.asarray(self.rows["spoiled"] == code_reason(reason))

    def vary(self, chosen: npt.NDArray[np.int64], forms: int) -> npt.NDArray[np.int64]:
        """Choose one of the forms of a fault for each of the chosen rows."""
        rows = self.rows[chosen]
        return np.asarray((rows["point"] + rows["start"] // rows["resolution"]) % forms)

    def tabulate_readings(self) -> pa.Table:
        """Return one row per reading; ids are dictionaries, a missing energy is null."""
        energy = pa.array(self.energy, mask=self.rows["status"] == Status.MISSING)
        return pa.table(
            [
                pa.DictionaryArray.from_arrays(self.point_codes, self.ids),
                _repeat_word(ACTIVE_ENERGY, len(self.rows)),
                _make_times(self.rows["start"]),
                pa.array(np.ascontiguousarray(self.rows["resolution"])),
                _make_times(np.broadcast_to(np.int64(self.registered_at), len(self.rows))),
                energy,
                pa.array(self.status),
            ],
            schema=_READINGS_SCHEMA,
        )

    def tabulate_series(self) -> pa.Table:
        """Return one row per series. Junk lacks its statuses."""
        rows, junk = self.rows, self.spoiled_by(Reason.UNREADABLE_ROW)
        firsts = self.find_series()
        ends = np.append(firsts, len(rows))
        status_ends = np.concatenate([[0], np.cumsum(~junk)])[ends]
        return pa.table(
            [
                self.ids.take(pa.array(self.point_codes[firsts])),
                pa.repeat(ACTIVE_ENERGY, len(firsts)),
                _make_times(rows["start"][firsts]),
                pa.array(rows["resolution"][firsts]),
                _make_times(np.full(len(firsts), self.registered_at)),
                pa.ListArray.from_arrays(ends.astype(np.int32), self.energy).cast(SERIES_SCHEMA.field("energy").type),
                pa.ListArray.from_arrays(status_ends.astype(np.int32), self.status[~junk]).cast(
                    SERIES_SCHEMA.field("status").type
                ),
            ],
            schema=_SERIES_SCHEMA,
        )

    def find_series(self) -> npt.NDArray[np.int64]:
        """Find the first rows of series: contiguous readings of one id, layer and resolution."""
        rows = self.rows
        goes_on = (
            (np.diff(self.point_codes) == 0)
            & (np.diff(rows["layer"]) == 0)
            & (np.diff(rows["resolution"]) == 0)
            & (np.diff(rows["start"]) == rows["resolution"][1:])
        )
        return np.concatenate([[0], np.flatnonzero(~goes_on) + 1]).astype(np.int64)

    def compose_quantities(self, sign: str) -> Any:
        """Return each row's energy in kWh as text with a decimal sign, no number where bad."""
        bad = self.spoiled_by(Reason.BAD_ENERGY)
        words = pa.array([word.replace(",", sign) for word in _BAD_NUMBERS])
        words = words.take(pa.array(self.vary(np.arange(len(self.rows)), len(_BAD_NUMBERS))))
        return pc.if_else(pa.array(bad), words, _format_energy(self.rows["energy"], sign))

    def compose_transactions(self) -> Iterator[str]:
        """Yield each series as a transaction of an E66 message; junk has a number that is none."""
        rows, firsts = self.rows, self.find_series()
        numbers = np.arange(1, len(rows) + 1) - np.repeat(firsts, np.diff(firsts, append=len(rows)))
        places = pc.if_else(pa.array(self.spoiled_by(Reason.UNREADABLE_ROW)), "#", pa.array(numbers).cast(pa.string()))
        quality = pa.array([_XML_QUALITIES.get(status, "") for status in Status]).take(pa.array(rows["status"]))
        unknown = pa.array(self.spoiled_by(Reason.UNKNOWN_STATUS))
        quality = pc.if_else(unknown, f"<QQ>{_UNKNOWN_WORD}</QQ>", quality)
        value = pc.binary_join_element_wise("<QTY>", self.compose_quantities("."), "</QTY>", quality, "")
        value = pc.if_else(pa.array(rows["status"] == Status.MISSING), "<QM>true</QM>", value)
        texts = pc.binary_join_element_wise("<OBS><SEQ>", places, "</SEQ><EOBS>", value, "</EOBS></OBS>", "")
        return self._frame_series(_XML_SERIES, texts, "")

    def compose_answers(self) -> Iterator[str]:
        """Yield each series as the JSON interface gives it; junk starts at no time."""
        start = pc.if_else(pa.array(self.spoiled_by(Reason.UNREADABLE_ROW)), "#", self._compose_starts())
        quantity = pc.binary_join_element_wise('"', self.compose_quantities("."), '"', "")
        quantity = pc.if_else(pa.array(self.rows["status"] == Status.MISSING), "null", quantity)
        texts = pc.binary_join_element_wise(
            '{"PeriodStartTime":"', start, '","Quantity":', quantity, ',"Quality":"', self._compose_words(), '"}', ""
        )
        return self._frame_series(_JSON_SERIES, texts, ",")

    def _frame_series(self, form: str, observations: Any, between: str) -> Iterator[str]:
        """Yield each series in a form, its observations put together."""
        rows, firsts, texts = self.rows, self.find_series(), observations.to_pylist()
        ends = np.append(firsts[1:], len(rows))
        points = self.ids.take(pa.array(self.point_codes[firsts])).to_pylist()
        for point, first, end in zip(points, firsts.tolist(), ends.tolist(), strict=True):
            start, resolution = int(rows["start"][first]), int(rows["resolution"][first])
            yield form.format(
                point=point,
                resolution=_RESOLUTION_WORDS[resolution],
                start=np.datetime64(start, "s"),
                end=np.datetime64(start + (end - first) * resolution, "s"),
                observations=between.join(texts[first:end]),
            )

    def _compose_starts(self) -> Any:
        return _translate(self.rows["start"], lambda start: f"{np.datetime64(start, 's')}Z")

    def _compose_words(self) -> Any:
        """Return each row's status as the portal says it, a word that it does not have where unknown."""
        words = pa.array(STATUS_WORDS).take(pa.array(self.rows["status"]))
        return pc.if_else(pa.array(self.spoiled_by(Reason.UNKNOWN_STATUS)), _UNKNOWN_WORD, words)

    def compose_lines(self) -> Any:
        """Return the lines of the Datahub portal's CSV, without a header, as an Arrow string array."""
        rows = self.rows
        quantity = pc.if_else(pa.array(rows["status"] == Status.MISSING), "", self.compose_quantities(","))
        lines = pc.binary_join_element_wise(
            self.ids.take(pa.array(self.point_codes)),
            ACTIVE_ENERGY,
            _translate(rows["resolution"], _RESOLUTION_WORDS.__getitem__),
            "kWh",
            "BN01",
            self._compose_starts(),
            quantity,
            self._compose_words(),
            ";",
        )
        return pc.if_else(pa.array(self.spoiled_by(Reason.UNREADABLE_ROW)), _JUNK_LINE, lines)


def write_readings(path: Path, fleet: Fleet, parts: Iterable[Rows], registered_at: int) -> int:
    """Write rows as one file in the format that the fleet's options name; part by part, none is kept.

    Args:
        path: the file to make; its name says the registration time too, for formats that have no place for it.
        fleet: the fleet.
        parts: the rows, each part sorted by point, layer and start, and none of them empty.
        registered_at: when all of the rows were registered, seconds since 1970 UTC.

    Returns:
        The number of rows.
    """
    count = 0

    def prepare() -> Iterator[_Part]:
        nonlocal count
        for rows in parts:
            count += len(rows)
            yield _Part(fleet, rows, registered_at)

    _WRITERS[fleet.options.format](path, prepare())
    return count


def _write_parquet(path: Path, parts: Iterator[_Part]) -> None:
    _write_tables(path, _READINGS_SCHEMA, (part.tabulate_readings() for part in parts))


def _write_parquet_series(path: Path, parts: Iterator[_Part]) -> None:
    _write_tables(path, _SERIES_SCHEMA, (part.tabulate_series() for part in parts))


def _write_tables(path: Path, schema: pa.Schema, tables: Iterator[pa.Table]) -> None:
    options = {"compression": "zstd", "use_dictionary": _DICTIONARIES, "write_statistics": _STATISTICS}
    with pq.ParquetWriter(path, schema, **options) as writer:
        for table in tables:
            writer.write_table(table, row_group_size=_ROW_GROUP)


def _write_avro_readings(path: Path, parts: Iterator[_Part]) -> None:
    energy = _READINGS_SCHEMA.get_field_index("energy")
    tables = (part.tabulate_readings().set_column(energy, "energy", pa.array(part.energy)) for part in parts)
    _write_avro(path, "meter_reading", tables)


def _write_avro_series(path: Path, parts: Iterator[_Part]) -> None:
    _write_avro(path, "meter_series", (part.tabulate_series() for part in parts))


def _write_avro(path: Path, schema: str, tables: Iterator[pa.Table]) -> None:
    marker = hashlib.md5(path.name.encode(), usedforsecurity=False).digest()  # the same file for the same seed
    records = chain.from_iterable(map(_list_records, tables))
    with path.open("wb") as out:
        fastavro.writer(out, load_avro_schema(schema), records, codec="zstandard", sync_marker=marker)


def load_avro_schema(name: str) -> dict[str, Any]:
    """Load one of the Avro schemas of the package ``schemas``."""
    schema: dict[str, Any] = json.loads(files("schemas").joinpath("avro", f"{name}.avsc").read_text())
    return schema


def _list_records(table: pa.Table) -> Iterator[dict[str, Any]]:
    """List the rows as Avro records: times as numbers, dictionaries resolved (both are slow as Python objects)."""
    plain = {_TIME: pa.int64(), _WORD: pa.string()}
    table = table.cast(pa.schema([field.with_type(plain.get(field.type, field.type)) for field in table.schema]))
    names = table.column_names
    for batch in table.to_batches(max_chunksize=_AVRO_BATCH):
        columns = [column.to_pylist() for column in batch.columns]
        yield from (dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True))


def _write_csv(path: Path, parts: Iterator[_Part]) -> None:
    with path.open("w", encoding="utf-8-sig", newline="\n") as out:
        out.write(_CSV_HEADER + "\n")
        for part in parts:
            out.writelines(f"{line}\n" for line in part.compose_lines().to_pylist())


def _write_xml(path: Path, parts: Iterator[_Part]) -> None:
    series = ((part.registered_at, text) for part in parts for text in part.compose_transactions())
    _write_message(path, series, (_XML_HEAD, "\n", "\n" + _XML_END))


def _write_json(path: Path, parts: Iterator[_Part]) -> None:
    series = ((part.registered_at, text) for part in parts for text in part.compose_answers())
    _write_message(path, series, (_JSON_HEAD, ",\n", _JSON_END))


def _write_message(path: Path, series: Iterator[tuple[int, str]], frame: tuple[str, str, str]) -> None:
    """Write series, each with its registration time, between a head, which says the first's, and an end."""
    head, between, end = frame
    with path.open("w", encoding="utf-8", newline="\n") as out:
        registered_at, first = next(series)
        out.write(head.format(name=path.stem, stamp=f"{np.datetime64(registered_at, 's')}Z"))
        out.write(first)
        out.writelines(between + text for _, text in series)
        out.write(end)


_WRITERS: dict[str, Callable[[Path, Iterator[_Part]], None]] = {
    "avro-series": _write_avro_series,
    "avro-readings": _write_avro_readings,
    "parquet-series": _write_parquet_series,
    "parquet": _write_parquet,
    "datahub-csv": _write_csv,
    "datahub-xml": _write_xml,
    "datahub-json": _write_json,
}


def _repeat_word(word: str, count: int) -> Any:
    return pa.DictionaryArray.from_arrays(np.zeros(count, dtype=np.int32), [word])


def _make_times(seconds: Any) -> Any:
    return pa.array(seconds * np.int64(1_000_000)).cast(_TIME)


def _format_energy(energy: npt.NDArray[np.int64], decimal_sign: str) -> Any:
    """Format milliwatt-hours as kWh with six decimals."""
    whole, rest = np.divmod(np.abs(energy), 1_000_000)
    sign = pc.if_else(pa.array(energy < 0), "-", "")
    decimals = pc.utf8_lpad(pa.array(rest).cast(pa.string()), 6, "0")
    return pc.binary_join_element_wise(
        pc.binary_join_element_wise(sign, pa.array(whole).cast(pa.string()), ""), decimals, decimal_sign
    )


def _translate(values: npt.NDArray[Any], word: Callable[[int], str]) -> Any:
    """Write each distinct value as a word, once, and take the words for all."""
    distinct, places = np.unique(values, return_inverse=True)
    return pa.array([word(int(value)) for value in distinct]).take(pa.array(places))
