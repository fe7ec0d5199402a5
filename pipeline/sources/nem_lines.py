"""What meter data files of the Australian market have in common, NEM12 and NEM13.

Source: AEMO, Meter Data File Format Specification NEM12 & NEM13. A file is lines of fields, each a record that its
first field tells. It has a header (100) and an end (900), without which it was cut short.

* One metering point of the market (NMI) has several streams, which its suffix tells apart: E1 is energy out of the grid
  (consumption), B1 into it, Q1 and K1 are reactive. Each is a metering point here, ``<NMI>-<suffix>``; a stream without
  a suffix is its NMI's only one, and named by that.
* Times are those of UTC+10 all the year, wherever in the market the meter is.
"""

import mmap
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.errors import BadFileError
from pipeline.sources.base import ReadOptions, Split
from pipeline.sources.delimited import MOST_BYTES, as_utf8
from pipeline.sources.fields import parse_local, require_registration
from schemas.series import ACTIVE_ENERGY
from schemas.status import Status
from transforms.series import canonical_ids, find_mangled

Ints = NDArray[np.int64]

#: Bytes that one worker reads at a time: about three million values of NEM12.
SPLIT_BYTES = 16 << 20
#: Reactive energy, in kilovar-hours where active energy has kilowatt-hours; the suffix says its direction.
REACTIVE_ENERGY = "8716867000047"
#: Units that are energy, in upper case: what they count, and the unit of active energy of the same power of ten.
_UNITS = {
    "WH": (ACTIVE_ENERGY, "Wh"),
    "KWH": (ACTIVE_ENERGY, "kWh"),
    "MWH": (ACTIVE_ENERGY, "MWh"),
    "VARH": (REACTIVE_ENERGY, "Wh"),
    "KVARH": (REACTIVE_ENERGY, "kWh"),
    "MVARH": (REACTIVE_ENERGY, "MWh"),
}
#: Qualities: actual, forward estimate, substituted, finally substituted, null. Two digits of a method may follow.
_QUALITIES = {
    "A": Status.OK,
    "E": Status.ESTIMATED,
    "S": Status.ESTIMATED,
    "F": Status.ESTIMATED,
    "N": Status.MISSING,
}
_QUALITY_FORM = re.compile(r"[AESFN][0-9]{0,2}")
#: The code of a quality that is none.
UNKNOWN = -1
_US_PER_HOUR = 3_600_000_000
_OFFSET_US = 10 * _US_PER_HOUR
TIME = pa.timestamp("us", "UTC")
#: A date alone, as its midnight.
DATE_FORM = (r"^([0-9]{4})([0-9]{2})([0-9]{2})$", r"\1-\2-\3 00:00")
#: Times with and without seconds.
TIME_FORMS = (
    (r"^([0-9]{4})([0-9]{2})([0-9]{2})([0-9]{2})([0-9]{2})$", r"\1-\2-\3 \4:\5"),
    (r"^([0-9]{4})([0-9]{2})([0-9]{2})([0-9]{2})([0-9]{2})([0-9]{2})$", r"\1-\2-\3 \4:\5:\6"),
)
_BOM = b"\xef\xbb\xbf"
#: The first line; some senders begin with an empty one.
_HEADER = re.compile(rb"(?:\xef\xbb\xbf)?\s*100,(NEM1[23])[,\r\n]")
_END = re.compile(rb"\n900,*\r?(?:\n|$)")


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines as fields.

    Attributes:
        fields: every field of every line, in order, strings.
        first: int64, each line's first field.
        count: int64, how many each has.
        row: int64, its number in the file.
        kind: int64, its record indicator; 0 where there is none.
    """

    fields: pa.StringArray
    first: Ints
    count: Ints
    row: Ints
    kind: Ints

    def take(self, lines: Ints, position: int | Ints) -> pa.Array:
        """Take the field at a position of each of some lines; empty where a line ends before it."""
        there = self.count[lines] > position
        taken = self.fields.take(pa.array(np.where(there, self.first[lines] + position, 0)))
        return pc.utf8_trim_whitespace(taken if there.all() else pc.if_else(pa.array(there), taken, ""))


class NemSource:
    """What the sources of both formats do alike.

    Attributes:
        name: of the format.
        version: how its header names it.
        cut: the line end before which a file may be cut.
    """

    name: str
    version: bytes
    cut: re.Pattern[bytes]

    def recognises(self, path: str, head: bytes, options: ReadOptions) -> bool:
        """Tell a file by its header record."""
        del path, options
        return _is_headed(head, self.version)

    def splits(
        self, path: str, digest: str, options: ReadOptions, *, split_bytes: int = SPLIT_BYTES
    ) -> Sequence[Split]:
        """Check that every block has its end record, and cut the file between records.

        A block is what stands from a 100 to a 900. The specification has one a file; files that somebody joined have
        more, and one of them that is cut exactly between two blocks is whole to everybody.

        Raises:
            BadFileError: no header, no end record, or something after it.
        """
        del options
        splits = []
        with Path(path).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            _check_blocks(path, data, self.version)
            start, first_row = 0, 1
            while start < len(data):
                found = self.cut.search(data, min(start + split_bytes, len(data)) - 1)
                stop = found.end() if found else len(data)
                if stop - start > MOST_BYTES:
                    raise BadFileError("a line is too long to be a record", where=path, remedy="check the file")
                splits.append(Split(path, self.name, digest, start, stop, first_row))
                first_row += data[start:stop].count(b"\n")
                start = stop
        return splits


def _is_headed(head: bytes | mmap.mmap, version: bytes) -> bool:
    header = _HEADER.match(head)
    return header is not None and header.group(1) == version


def _check_blocks(path: str, data: mmap.mmap, version: bytes) -> None:
    if not _is_headed(data, version):
        raise BadFileError(
            f"it does not begin with the header of {version.decode()}", where=path, remedy="check the file and --format"
        )
    rest = re.compile(rb"\s*(?:$|100,%b[,\r\n])" % version)
    end = place = 0
    while (place := data.find(b"\n900", place)) >= 0:  # a regular expression takes ten times as long to search
        found = _END.match(data, place)
        place += 1
        if found is None:
            continue
        end = found.end()
        if not rest.match(data, end):
            raise BadFileError("something stands after its end record (900)", where=path, remedy="fetch it again")
    if data[end:].strip():
        raise BadFileError("it has no end record (900): it was cut short", where=path, remedy="fetch it again")


def parse_lines(content: bytes, first_row: int, kinds: Ints) -> Lines:
    """Cut text into fields: one array of them all, without a copy of any.

    Args:
        content: whole lines.
        first_row: number of the first of them in its file, from 1.
        kinds: the format's record indicators; other lines are none.
    """
    content, _ = as_utf8(content.removeprefix(_BOM), "utf-8")
    if b"\r" in content:
        content = content.replace(b"\r\n", b"\n").replace(b"\r", b" ")
    if b'"' in content:  # only notes in words have any reason for quotes
        content = re.sub(rb'(?<=,)"[^"\n]*"', lambda quoted: quoted.group()[1:-1].replace(b",", b" "), content)
    if not content.endswith(b"\n"):
        content += b"\n"
    text = np.frombuffer(content, np.uint8)
    separators = np.flatnonzero((text == ord(",")) | (text == ord("\n")))
    last = np.flatnonzero(text[separators] == ord("\n"))
    # Without the separators, each field begins where the one before it ends.
    offsets = np.concatenate(([0], separators - np.arange(len(separators)))).astype(np.int32)
    fields = pa.StringArray.from_buffers(
        len(separators), pa.py_buffer(offsets), pa.py_buffer(content.translate(None, b",\n"))
    )
    first = np.concatenate(([0], last[:-1] + 1))
    filled = np.flatnonzero(offsets[last + 1] > offsets[first])
    first, last = first[filled], last[filled]
    # Exactly these: what cuts a file, and finds the stream that a part begins in, goes by them as well.
    kind = (
        pc.index_in(fields.take(pa.array(first)), pa.array([str(number) for number in kinds]))
        .fill_null(len(kinds))
        .to_numpy()
    )
    return Lines(fields, first, last - first + 1, first_row + filled, np.append(kinds, 0)[kind])


def rate_quality(word: str) -> int:
    """Give the status that a quality says, such as A or S14, in upper case; ``UNKNOWN`` where it is none."""
    return _QUALITIES[word[0]] if _QUALITY_FORM.fullmatch(word) else UNKNOWN


def find_units(texts: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Find the product that a unit counts, and the unit as active energy has it; null where it is none of energy."""
    place = pc.index_in(pc.ascii_upper(texts), pa.array(list(_UNITS)))
    product, unit = (pa.array(column).take(place) for column in zip(*_UNITS.values(), strict=True))
    return product, unit


def name_points(nmi: pa.Array, suffix: pa.Array) -> pa.Array:
    """Name the point of each stream; empty where its NMI is lost."""
    # An id without its suffix, where it is lost anyway (empty, or in exponent form), is set aside as one.
    alone = pc.or_(pc.equal(suffix, ""), pa.array(find_mangled(canonical_ids(nmi))))
    names = pc.if_else(alone, nmi, pc.binary_join_element_wise(nmi, suffix, "-"))
    return pc.if_else(pc.match_substring(names, "\ufffd"), "", names)


def find_registration(
    updated: pa.Array, loaded: pa.Array, split: Split, options: ReadOptions
) -> tuple[pa.Array, pa.Array]:
    """Find when a record was updated, else loaded into the market's system, else what the options say; and its text."""
    stamps = pc.if_else(pc.equal(updated, ""), loaded, updated)
    unsaid = pc.equal(stamps, "")
    moments = parse_times(stamps, (DATE_FORM, *TIME_FORMS))
    if pc.any(unsaid).as_py():
        moments = pc.if_else(unsaid, pa.scalar(require_registration(split.path, options)).cast(TIME), moments)
    return moments, stamps


def parse_times(text: pa.Array, forms: Sequence[tuple[str, str]]) -> pa.Array:
    """Parse times of standard time, in one of some forms, to timestamp[us, UTC]; null where there is none."""
    text = pc.if_else(pc.match_substring(text, "-"), None, text)  # what is in another form already is none
    for form, written in forms:
        text = pc.replace_substring_regex(text, form, written)
    local = parse_local(text)
    return pc.subtract(local.view(pa.int64()), _OFFSET_US).view(TIME)
