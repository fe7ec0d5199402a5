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
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.parsers import expat

import numpy as np

from pipeline.errors import BadFileError
from pipeline.sources.base import Delivery, ReadOptions, Split
from pipeline.sources.datahub_borders import Borders, Fields
from pipeline.sources.datahub_observations import Part, decode_series
from pipeline.sources.datahub_runs import Layouts, Run
from pipeline.sources.fields import require_registration

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
        self._layouts = Layouts()
        self._borders = Borders(_MESSAGE, _SERIES, _OF_SERIES, {_MESSAGE, _HEADER, _OBSERVATION, _VALUE})
        self._fallback: int | None = None
        #: Of whole series.
        self._rows = 0
        self._delivered = 0
        self._in_series = 0
        self._series: list[tuple[str, ...]] = []
        self._lengths: list[int] = []
        # Observations, in order: of whole series, and of the one that is open.
        self._whole: list[Part] = []
        self._open: list[Part] = []

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
        """Give bytes to the parser, but for plain observations in a series, and known borders between these."""
        if self._given == 0:
            # In two bytes a character, what looks like observations is something else.
            self._in_bytes = b"\0" not in chunk[:4] and not chunk.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        run = self._layouts.find(chunk if self._in_bytes else b"")
        # Observations with something between them, and the fields where that is a border.
        joints = np.flatnonzero(run.stops[:-1] != run.begins[1:])
        heads: list[Fields | None] = []
        ends: list[int] = []
        closing, place, first, after_run = None, 0, 0, False
        while first < len(run):
            border = chunk[place : run.begins[first]]
            self._parse(border)
            learned = after_run and self._borders.learn(border)
            if learned or closing != self._closing:
                closing = self._closing
                heads = self._borders.find(chunk, run.stops[joints], run.begins[joints + 1], closing)
                ends = [joint + 1 for joint, head in zip(joints.tolist(), heads, strict=True) if head is None]
                ends.append(len(run))
            stop = ends[bisect_right(ends, first)]
            place = int(run.stops[stop - 1])
            after_run = self._is_in_series()
            if after_run:
                inside = slice(*np.searchsorted(joints, (first, stop - 1)))
                self._take(run, first, stop, joints[inside].tolist(), heads[inside])
            else:
                self._parse(chunk[run.begins[first] : place])
            first = stop
        self._parse(chunk[place:])

    def _take(self, run: Run, first: int, stop: int, borders: Sequence[int], heads: Sequence[Any]) -> None:
        """Take observations: of the series that is open, and of those that begin behind borders, with their fields."""
        if borders:
            last = borders[-1] + 1
            self._count(borders[0] + 1 - first)
            self._open.append(run.cut(first, last))
            self._end_series()
            registered = self._found.get(_REGISTERED, "")
            lengths = np.diff(borders).tolist()
            self._series += [(*head, registered) for head in heads[:-1]]
            self._lengths += lengths
            self._rows += sum(lengths)
            self._found.update(zip(_OF_SERIES, heads[-1], strict=True))
            first = last
        self._count(stop - first)
        self._open.append(run.cut(first, stop))

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
        first_row = self._delivered + 1
        self._whole, self._series, self._lengths, self._delivered = [], [], [], self._rows
        if parts and not self._check_only:
            yield decode_series(series, lengths, parts, first_row, self._fallback)
