"""Register reads of the Australian market: NEM13 (``pipeline.sources.nem_lines``).

Between header and end, each line (250) says what a register counted between two reads; notes between businesses (550)
may follow. The reads are made on a round of visits, months apart as a rule. Where they are exactly an interval apart,
what was counted is a reading of that interval. Otherwise it is no energy of one, and nothing says how it falls on those
in between: it is set aside, with both times and what was counted. A date alone is no time of a read: it would make an
interval of two visits at any hour.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.sources.base import Delivery, ReadOptions, Split
from pipeline.sources.deliver import Columns, deliver_readings, is_resolution, reject_rows
from pipeline.sources.fields import parse_energy
from pipeline.sources.nem_lines import (
    TIME_FORMS,
    UNKNOWN,
    Ints,
    Lines,
    NemSource,
    find_registration,
    find_units,
    name_points,
    parse_lines,
    parse_times,
    rate_quality,
)
from schemas.reasons import Reason
from schemas.series import DAY_S
from transforms.rejected import render_field

#: Record indicators.
_KINDS = np.array([100, 250, 550, 900])
_READ = 250
#: Fields of a 250 record, and how many it has at least: up to the unit. What follows may be left out.
_NMI, _SUFFIX, _BEFORE, _BEFORE_QUALITY, _AFTER, _AFTER_QUALITY, _QUANTITY, _UNIT = 1, 4, 9, 10, 14, 15, 18, 19
_UPDATED, _LOADED = 21, 22
_LEAST, _MOST = _UNIT + 1, _LOADED + 1
_US_PER_S = 1_000_000


class Nem13Source(NemSource):
    """NEM13 files."""

    name = "nem13"
    version = b"NEM13"
    cut = re.compile(rb"\n(?=250,)")

    def read(self, split: Split, options: ReadOptions) -> Iterator[Delivery]:
        """Decode the lines of a split."""
        with Path(split.path).open("rb") as file:
            file.seek(split.start)
            lines = parse_lines(file.read(split.stop - split.start), split.first_row, _KINDS)
        reads = np.flatnonzero(lines.kind == _READ)
        count, is_empty = lines.count[reads], pc.equal(lines.take(reads, _MOST), "").to_numpy(zero_copy_only=False)
        whole = (count >= _LEAST) & (count <= _MOST + is_empty)  # a line may end in a comma
        broken = np.sort(np.append(np.flatnonzero(lines.kind == 0), reads[~whole]))
        delivery = _deliver(lines, reads[whole], split, options)
        yield Delivery(delivery.series, pa.concat_batches([reject_rows(lines.row[broken]), delivery.rejected]))


def _deliver(lines: Lines, reads: Ints, split: Split, options: ReadOptions) -> Delivery:
    def take(position: int) -> pa.Array:
        return lines.take(reads, position)

    first, last, quantity = (take(position) for position in (_BEFORE, _AFTER, _QUANTITY))
    begin, end = (parse_times(text, TIME_FORMS) for text in (first, last))
    apart = pc.divide(pc.subtract(end.view(pa.int64()), begin.view(pa.int64())), _US_PER_S)
    span = apart.fill_null(0).to_numpy()
    is_break = apart.is_valid().to_numpy(zero_copy_only=False) & ~is_resolution(span)
    product, units = find_units(take(_UNIT))
    status, words = _find_status(take(_BEFORE_QUALITY), take(_AFTER_QUALITY))
    registered_at, stamps = find_registration(take(_UPDATED), take(_LOADED), split, options)
    columns = Columns(
        metering_point_id=name_points(take(_NMI), take(_SUFFIX)),
        product=product,
        start=begin,
        resolution_s=pc.if_else(pa.array(is_break), DAY_S, apart),
        registered_at=registered_at,
        energy=parse_energy(quantity, units.fill_null(""), "."),
        status=pc.if_else(units.is_valid(), status, None),  # what is no energy is no missing energy either
        row=lines.row[reads],
    )
    as_delivered = {"start": first, "registered_at": stamps, "energy": quantity, "status": words}
    delivered = {**columns.as_delivered(), **as_delivered}
    delivery = deliver_readings(columns, delivered, {Reason.REGISTER_BREAK: is_break})
    spans = pc.coalesce(render_field("resolution", apart), last)
    return replace(delivery, rejected=_show_spans(delivery.rejected, columns.row, spans))


def _find_status(before: pa.Array, after: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Find the status of what was counted, int8, null where unknown, and the word that says it.

    It is a difference, so it is as good as the weaker of the two reads.
    """
    words = [pc.ascii_upper(quality).dictionary_encode() for quality in (before, after)]
    first, last = (
        np.array([rate_quality(word) for word in each.dictionary.to_pylist()], np.int8)[each.indices.to_numpy()]
        for each in words
    )
    weakest = np.minimum(first, last)
    return pa.array(weakest, mask=weakest == UNKNOWN), pc.if_else(pa.array(first < last), before, after)


def _show_spans(rejected: pa.RecordBatch, row: Ints, spans: pa.Array) -> pa.RecordBatch:
    """Show of what is set aside how far its reads are apart, or its second read as delivered where nothing tells."""
    at = pa.array(np.searchsorted(row, rejected["row"].to_numpy()))
    place = rejected.schema.get_field_index("resolution")
    return rejected.set_column(place, rejected.schema.field(place), spans.take(at))
