"""Customer exports of the Finnish Datahub portal: CSV in three variants, Finnish with 7 or 8 columns, or English.

The reading type (``BN01``, ``BN02``; 8 columns only) is passed over: both were seen on plain consumption of one point.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import BadFileError
from pipeline.sources.base import Delivery, ReadOptions, Split
from pipeline.sources.datahub_words import QUALITIES
from pipeline.sources.delimited import SPLIT_BYTES, Header, parse_header, read_head, split_lines
from pipeline.sources.delimited_lines import Lines, make_form, read_lines
from pipeline.sources.deliver import Columns, translate_words
from pipeline.sources.fields import parse_energy, parse_instant, parse_resolution, require_registration

_DELIMITER, _DECIMAL_SIGN = ";", ","
#: A Latin-1 file is a portal export that a spreadsheet has saved again.
_ENCODINGS = ("utf-8", "latin-1")

#: Our field by the header's word, in lower case, in both languages.
_FIELDS = {
    "mittauspisteen tunnus": "metering_point_id",
    "meteringpointgsrn": "metering_point_id",
    "tuotteen tyyppi": "product",
    "product type": "product",
    "resoluutio": "resolution",
    "resolution": "resolution",
    "yksikkötyyppi": "unit",
    "unit type": "unit",
    "alkuaika": "start",
    "start time": "start",
    "määrä": "energy",
    "quantity": "energy",
    "laatu": "status",
    "quality": "status",
}
_NEEDED = frozenset(_FIELDS.values())


class DatahubCsvSource:
    """The portal's CSV export."""

    name = "datahub-csv"

    def recognises(self, path: str, head: bytes, options: ReadOptions) -> bool:
        """Tell an export by the names in its first line."""
        del path, options
        return _find_header(head) is not None

    def splits(
        self, path: str, digest: str, options: ReadOptions, *, split_bytes: int = SPLIT_BYTES
    ) -> Sequence[Split]:
        """Check header and options, and cut the file at line ends.

        Raises:
            BadFileError: no export of the portal, no registration time, or no id for a file without ids.
        """
        header = _require_header(path)
        require_registration(path, options)
        _find_own_point(path, header, options)
        return split_lines(path, self.name, digest, header, split_bytes)

    def read(self, split: Split, options: ReadOptions) -> Iterator[Delivery]:
        """Decode the lines of a split."""
        header = _require_header(split.path)
        registered_at = require_registration(split.path, options)
        own_point = _find_own_point(split.path, header, options)
        places = _place_fields(header)
        others = [place for field, place in places.items() if field not in ("start", "energy")]
        form = make_form(
            header, times=[places["start"]], number=places["energy"], others=others, decimal_sign=_DECIMAL_SIGN
        )
        # Of the words of a quality, which end a line as the portal writes it, none begins another.
        must_end = places["status"] != len(header.names) - 1
        for lines in read_lines(split, header, form, must_end=must_end):
            yield _deliver(lines, places, own_point, registered_at)


def _place_fields(header: Header) -> dict[str, int]:
    """Find the column of each field."""
    return {field: place for place, name in enumerate(header.names) if (field := _FIELDS.get(name.lower()))}


def _deliver(lines: Lines, places: dict[str, int], own_point: str, registered_at: int) -> Delivery:
    text = {field: lines.fields[place] for field, place in places.items()}
    ids = pc.utf8_trim_whitespace(text["metering_point_id"])
    ids = pc.if_else(pc.is_in(ids, pa.array(["", "0"])), own_point, ids)
    energy = parse_energy(text["energy"], text["unit"], _DECIMAL_SIGN)
    columns = Columns(
        metering_point_id=lines.spread(ids.dictionary_encode()),
        product=lines.spread(text["product"].dictionary_encode()),
        start=lines.spread_times(parse_instant(text["start"]), places["start"]),
        resolution_s=lines.spread(parse_resolution(text["resolution"])),
        registered_at=pa.array(np.full(len(lines.row), registered_at)).cast(pa.timestamp("us", "UTC")),
        energy=lines.spread_energy(energy, text["unit"]),
        status=lines.spread(translate_words(text["status"], QUALITIES)),
        row=lines.row,
    )

    def show(taken: pa.Array) -> dict[str, pa.Array]:
        fields = lines.show(taken)
        shown = {field: fields[place] for field, place in places.items()}
        return {**shown, "registered_at": columns.registered_at.take(taken)}

    return lines.deliver(columns, show, lines.faults)


def _find_header(head: bytes) -> Header | None:
    for encoding in _ENCODINGS:
        header = parse_header(head, _DELIMITER, encoding)
        if header is not None and {_FIELDS.get(name.lower()) for name in header.names} >= _NEEDED:
            return header
    return None


def _require_header(path: str) -> Header:
    header = _find_header(read_head(path))
    if header is None:
        raise BadFileError(
            "its first line is not that of a Datahub portal export", where=path, remedy="check the file and --format"
        )
    return header


def _find_own_point(path: str, header: Header, options: ReadOptions) -> str:
    """Give the id that stands for blank ids: the option's in a customer's own export, else the empty id.

    A file whose first reading has a blank or ``0`` id is such an export. Elsewhere a blank id is one that was lost.

    Raises:
        BadFileError: an export without ids, and no option.
    """
    column = _place_fields(header)["metering_point_id"]
    for line in read_head(path)[header.length :].splitlines():
        fields = line.decode(header.encoding, "replace").split(_DELIMITER)
        if len(fields) == len(header.names) and any(fields):
            if fields[column].strip().strip('"').strip() not in ("", "0"):
                return ""
            if options.metering_point is None:
                raise BadFileError(
                    "its readings have no metering point", where=path, remedy="give the id with --metering-point"
                )
            return options.metering_point
    return ""
