"""Time series of the Finnish Datahub: E66 messages in XML, in their SOAP envelope or bare.

* Elements go by their local names: each version of the schema has namespaces of its own.
* A message is a delta: only what is new or changed stands in it, all of it registered at one time.
* Value n of a series stands at its start + (n - 1) x its resolution. Numbers may be left out, in disorder, or repeated.
* A row is an observation: the first of the file is 1, whatever lines the file has.

Nothing is declared in a file: one with a document type is refused, so no entity is ever expanded or fetched. A field
that comes twice where it must come once is joined with ``+``, a form that none of them has, and set aside as such.
"""

import codecs
import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any
from xml.parsers import expat

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.errors import BadFileError
from pipeline.sources.base import Delivery, ReadOptions, Split
from pipeline.sources.datahub_borders import Borders
from pipeline.sources.datahub_runs import Run, decode_runs, find_runs, prove_runs
from pipeline.sources.datahub_words import name_units
from pipeline.sources.deliver import Columns, deliver_readings, translate_words
from pipeline.sources.fields import parse_energy, parse_instant, parse_resolution, require_registration
from schemas.status import Status

#: Bytes that the parser is given at a time.
_CHUNK_BYTES = 1 << 20
#: Observations that a delivery has, but for those of its last series.
_BATCH = 100_000
#: Bounds of what is held at once; a series of the format has 10,000 observations at most.
_MOST_OBSERVATIONS, _MOST_CHARACTERS, _MOST_DEPTH = 1_000_000, 1_000, 100
#: Bytes of a tag or a comment, which the parser holds whole.
_MOST_HELD = 4 << 20
#: What tells the format: its elements, by their local names.
_MARK = re.compile(rb"<(?:[\w.-]+:)?EnergyTimeSeries(?:Message)?[\s/>]")
_MESSAGE, _HEADER, _SERIES = "EnergyTimeSeries", "Header", "Transaction"
_OBSERVATION, _VALUE = "OBS", "EOBS"
#: Elements that hold others of ours, each with the one that it must stand in.
_FRAMES = {_SERIES: _MESSAGE, _OBSERVATION: _SERIES, _VALUE: _OBSERVATION}
_PERIOD = "ObservationPeriodTimeSeriesPeriod"
_PRODUCT = "ProductIncludedProductCharacteristic"
#: Fields by the element that holds them and their own.
_REGISTERED = (_HEADER, "RegistrationTimestamp")
_POINT = ("MeteringPointUsedDomainLocation", "Identification")
_PRODUCT_ID, _UNIT = (_PRODUCT, "Identification"), (_PRODUCT, "UnitType")
_RESOLUTION, _START = (_PERIOD, "ResolutionDuration"), (_PERIOD, "Start")
_OF_SERIES = (_POINT, _PRODUCT_ID, _UNIT, _RESOLUTION, _START)
_NOTHING = ("",) * len(_OF_SERIES)
#: Number, quantity, quality, and that the quantity is missing.
_OF_OBSERVATION = ((_OBSERVATION, "SEQ"), (_VALUE, "QTY"), (_VALUE, "QQ"), (_VALUE, "QM"))
_FIELDS = frozenset((_REGISTERED, *_OF_SERIES, *_OF_OBSERVATION))
#: An observation without a quality is OK. ``QM`` stands for a missing value, beside which there is nothing else.
_WORDS = {
    "OK": Status.OK,
    "QM": Status.MISSING,
    "Z04": Status.PARTIAL,
    "Z02": Status.UNCERTAIN,
    "21": Status.UNCERTAIN,
    "99": Status.ESTIMATED,
    "56": Status.ESTIMATED,
    "Z01": Status.REVISED,
}
#: Words of ``QM`` that say the contrary.
_NOT_MISSING = ("false", "0")
_SEQUENCE_FORM = "^[0-9]{1,6}$"
_TIME = pa.timestamp("us", "UTC")
#: Observations, one by one, by ``_OF_OBSERVATION``, or a run of them.
_Part = list[tuple[str | None, ...]] | Run


class DatahubXmlSource:
    """E66 messages; a file is read in one part, since only from its beginning is it known what stands in it."""

    name = "datahub-xml"

    def recognises(self, path: str, head: bytes, options: ReadOptions) -> bool:
        """Tell a message by its elements."""
        del path, options
        if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            head = head.decode("utf-16", "replace").encode("utf-8", "replace")
        return head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<") and _MARK.search(head) is not None

    def splits(self, path: str, digest: str, options: ReadOptions) -> Sequence[Split]:
        """Check that the file is a message to its end, and that it or the options say when it was registered.

        Raises:
            BadFileError: damaged, cut short, with a document type, without a time series or a registration time.
        """
        reader = _Reader(path, options, check_only=True)
        for _ in reader.read():
            pass
        if not reader.messages:
            raise BadFileError("it has no energy time series", where=path, remedy="check the file and --format")
        return [Split(path, self.name, digest, 0, Path(path).stat().st_size, 1)]

    def read(self, split: Split, options: ReadOptions) -> Iterator[Delivery]:
        """Decode a message, series by series."""
        return _Reader(split.path, options).read()


class _Reader:
    """The state of reading one file: where the parser stands, and what it has found since the last delivery.

    Attributes:
        messages: how many time series messages have begun.
    """

    def __init__(self, path: str, options: ReadOptions, *, check_only: bool = False) -> None:
        """Begin to read.

        Args:
            path: the file.
            options: what the file may not say.
            check_only: read all, and deliver nothing.
        """
        self.messages = 0
        self._path, self._options, self._check_only = path, options, check_only
        self._parser = expat.ParserCreate()
        self._parser.buffer_text = True
        self._parser.StartDoctypeDeclHandler = self._refuse_doctype
        self._parser.StartElementHandler = self._begin
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._add_text
        self._parser.StartCdataSectionHandler = self._begin_cdata
        self._parser.EndCdataSectionHandler = self._end_cdata
        self._given = 0
        self._in_bytes = True
        self._in_cdata = False
        self._names: list[str] = []
        #: The field that is being read, and its length so far.
        self._text: list[str] | None = None
        self._length = 0
        self._found: dict[tuple[str, str], str] = {}
        self._in_header = True
        #: The tag that ends the series that is open, and what is known of how a sender goes on to the next.
        self._closing = b""
        self._borders = Borders(_MESSAGE, _SERIES, _OF_SERIES, {_MESSAGE, _HEADER, _OBSERVATION, _VALUE})
        self._fallback: int | None = None
        #: Of whole series.
        self._rows = 0
        self._delivered = 0
        self._in_series = 0
        self._series: list[tuple[str, ...]] = []
        self._lengths: list[int] = []
        # Observations, in order: of whole series, and of the one that is open.
        self._whole: list[_Part] = []
        self._open: list[_Part] = []

    def read(self) -> Iterator[Delivery]:
        """Read the file, a part of it at a time.

        Raises:
            BadFileError: damaged, cut short, or no message.
        """
        try:
            with Path(self._path).open("rb") as file:
                while chunk := file.read(_CHUNK_BYTES):
                    self._feed(chunk)
                    if self._rows - self._delivered >= _BATCH:
                        yield from self._deliver()
                self._parser.Parse(b"", True)
        except (expat.ExpatError, LookupError, ValueError) as error:
            line = f"line {error.lineno}" if isinstance(error, expat.ExpatError) else "its encoding"
            raise self._refuse(f"it is damaged or cut short ({line})", "fetch it again") from None
        yield from self._deliver()

    def _feed(self, chunk: bytes) -> None:
        """Give bytes to the parser, but for runs of plain observations in a series, and known borders between these."""
        place = 0
        if self._given == 0:
            # In two bytes a character, what looks like observations is something else.
            self._in_bytes = b"\0" not in chunk[:4] and not chunk.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        spans = list(find_runs(chunk)) if self._in_bytes else []
        after_run = False
        for (start, stop), run in zip(spans, prove_runs(chunk, spans), strict=True):
            border = chunk[place:start]
            known = self._borders.read(border) if after_run and border.lstrip().startswith(self._closing) else None
            if known:
                self._end_series()
                self._found.update(zip(_OF_SERIES, known, strict=True))
            else:
                self._parse(border)
            place = stop
            if run is None or not (known or self._is_in_series()):
                self._parse(chunk[start:stop])
                after_run = False
                continue
            if after_run and not known:
                self._borders.learn(border)
            self._count(len(run.signs))
            self._open.append(run)
            after_run = True
        self._parse(chunk[place:])

    def _is_in_series(self) -> bool:
        """Tell whether the parser stands directly in a series: in a comment or the like it has not taken all of it."""
        in_place = self._names[-1:] == [_SERIES] and not self._in_cdata
        return in_place and self._parser.CurrentByteIndex == self._given

    def _parse(self, data: bytes) -> None:
        if data:
            self._given += len(data)
            self._parser.Parse(data, False)
            if self._given - self._parser.CurrentByteIndex > _MOST_HELD:
                raise self._refuse("a tag or a comment is longer than any can be", "check the file")

    def _refuse(self, problem: str, remedy: str) -> BadFileError:
        return BadFileError(problem, where=self._path, remedy=remedy)

    def _refuse_doctype(self, *declared: Any) -> None:
        del declared
        raise self._refuse("it declares a document type, which no message does", "check where it comes from")

    def _begin(self, name: str, attributes: dict[str, str]) -> None:
        del attributes
        whole, name = name, name.rpartition(":")[2]
        names = self._names
        if self._text is not None or len(names) >= _MOST_DEPTH:
            raise self._misplaced()
        parent = names[-1] if names else ""
        names.append(name)
        if (parent, name) in _FIELDS:
            self._text, self._length = [], 0
        elif name in _FRAMES:
            if parent != _FRAMES[name]:
                raise self._misplaced()
            if name == _SERIES:
                self._begin_series(whole)
        elif name == _MESSAGE:
            if _MESSAGE in names[:-1]:
                raise self._misplaced()
            self.messages += 1
            self._in_header = True
            self._found.clear()

    def _begin_series(self, name: str) -> None:
        self._in_header = False
        self._closing = f"</{name}>".encode()
        if _REGISTERED not in self._found and self._fallback is None:
            self._fallback = require_registration(self._path, self._options)

    def _end(self, name: str) -> None:
        del name
        names = self._names
        name = names.pop()
        if self._text is not None:
            key = (names[-1], name)
            if key == _REGISTERED and not self._in_header:  # too late for the series before it
                raise self._misplaced()
            text = "".join(self._text).strip()
            self._text = None
            found = self._found
            found[key] = f"{found[key]}+{text}" if key in found else text
        elif name == _OBSERVATION:
            found = self._found
            observation = tuple([found.pop(key, None) for key in _OF_OBSERVATION])
            if self._open and isinstance(part := self._open[-1], list):
                part.append(observation)
            else:
                self._open.append([observation])
            self._count(1)
        elif name == _SERIES:
            self._end_series()

    def _end_series(self) -> None:
        found = self._found
        head = (*map(found.pop, _OF_SERIES, _NOTHING), found.get(_REGISTERED, ""))
        if self._in_series:
            self._series.append(head)
            self._lengths.append(self._in_series)
            self._rows += self._in_series
            self._in_series = 0
            self._whole += self._open
            self._open = []

    def _count(self, observations: int) -> None:
        self._in_series += observations
        if self._in_series > _MOST_OBSERVATIONS:
            raise self._refuse("a series has more observations than any can have", "check the file")

    def _begin_cdata(self) -> None:
        self._in_cdata = True

    def _end_cdata(self) -> None:
        self._in_cdata = False

    def _add_text(self, text: str) -> None:
        if self._text is not None:
            self._text.append(text)
            self._length += len(text)
            if self._length > _MOST_CHARACTERS:
                raise self._refuse("a field is longer than any can be", "check the file")

    def _misplaced(self) -> BadFileError:
        line = self._parser.CurrentLineNumber
        return self._refuse(f"an element stands where no message has it (line {line})", "check the file")

    def _deliver(self) -> Iterator[Delivery]:
        """Deliver the series that are whole."""
        parts, series, lengths = self._whole, self._series, self._lengths
        rows = np.arange(self._delivered + 1, self._rows + 1)
        self._whole, self._series, self._lengths, self._delivered = [], [], [], self._rows
        if parts and not self._check_only:
            heads = [pa.array(column, pa.string()) for column in zip(*series, strict=True)]
            owner = pa.array(np.repeat(np.arange(len(lengths)), lengths))
            yield _decode(heads, _list_fields(parts), owner, rows, self._fallback)


def _list_fields(parts: Sequence[_Part]) -> list[pa.Array]:
    """List the fields of observations, by ``_OF_OBSERVATION``; runs that follow each other are decoded at once."""
    pieces = []
    for by_run, group in groupby(parts, lambda part: isinstance(part, Run)):
        if by_run:
            pieces.append(decode_runs([part for part in group if isinstance(part, Run)]))
        else:
            columns = zip(*(one for part in group if isinstance(part, list) for one in part), strict=True)
            pieces.append([pa.array(column, pa.string()) for column in columns])
    return [pa.concat_arrays(columns) for columns in zip(*pieces, strict=True)]


def _decode(
    heads: list[pa.Array], fields: list[pa.Array], owner: pa.Array, rows: NDArray[np.int64], fallback: int | None
) -> Delivery:
    """Decode observations.

    Args:
        heads: the fields of each series as they stand in the file, by ``_OF_SERIES``, and its registration time.
        fields: those of each observation, by ``_OF_OBSERVATION``; null where there is none.
        owner: the series that each observation belongs to.
        rows: int64, its number in the file.
        fallback: when series are registered whose message does not say it, in microseconds UTC.
    """
    point, product, unit, resolution, start, registered = heads
    sequence, quantity, quality, missing = fields
    seconds = parse_resolution(resolution)
    places = pc.if_else(pc.match_substring_regex(sequence, _SEQUENCE_FORM), sequence, None).cast(pa.int64())
    places = pc.if_else(pc.greater(places, 0), places, None)
    # Unread durations would be multiplied as null, which the checks of every format then name.
    steps = pc.multiply(pc.subtract(places, 1), pc.multiply(seconds.cast(pa.int64()), 1_000_000).take(owner))
    begins = pc.add(_parse_time(start).view(pa.int64()).take(owner), steps).view(_TIME)
    moments = _parse_time(registered)
    if fallback is not None:
        moments = pc.if_else(pc.equal(registered, ""), pa.scalar(fallback).cast(_TIME), moments)
    words = _find_words(quantity, quality, missing)
    known = name_units(product, unit).take(owner)
    # One that comes twice is as lost as an empty one.
    twice = pc.or_(pc.match_substring(point, "+"), pc.match_substring(product, "+"))
    columns = Columns(
        metering_point_id=pc.if_else(twice, "", point).dictionary_encode().take(owner),
        product=product.dictionary_encode().take(owner),
        start=begins,
        resolution_s=seconds.take(owner),
        registered_at=moments.take(owner),
        energy=parse_energy(quantity, known, "."),
        status=translate_words(words, _WORDS),
        row=rows,
    )
    delivered = {
        "metering_point_id": point.take(owner),
        "product": columns.product,
        # Both are shown only where one part can't be read, and then must not be taken for the whole.
        "start": _join(start.take(owner), " SEQ ", sequence),
        "energy": _join(quantity, " ", unit.take(owner)),
        "resolution": resolution.take(owner),
        "registered_at": registered.take(owner),
        "status": words,
    }
    return deliver_readings(columns, delivered)


def _find_words(quantity: pa.Array, quality: pa.Array, missing: pa.Array) -> pa.Array:
    """Find the status word of each observation; what contradicts itself has a word that is none."""
    alone = pc.and_(quantity.is_null(), quality.is_null())
    said = pc.and_(missing.is_valid(), pc.invert(pc.is_in(missing, pa.array(_NOT_MISSING))))
    return pc.if_else(said, pc.if_else(alone, "QM", "QM+"), pc.fill_null(quality, "OK"))


def _parse_time(text: pa.Array) -> pa.Array:
    """Parse times, null where there is none; nanoseconds of a clock that has none are passed over."""
    return parse_instant(pc.replace_substring_regex(text, r"(\.[0-9]{6})0{1,3}", r"\1"))


def _join(text: pa.Array, between: str, other: pa.Array) -> pa.Array:
    return pc.binary_join_element_wise(text, other, between, null_handling="replace", null_replacement="")
