"""Time series from the Finnish Datahub's JSON interface: one answer a file.

* Each observation has its own start. A row is an observation: the first of the file is 1.
* What an answer says was registered at the header's ``RegistrationTimestamp``, or at its ``Creation``: it says what was
  valid then, so all that was registered before gives way to it, and all that comes later does not.
* An answer that there is no data is empty. Any other reason is an error of the interface, and the file is refused.
* The reading type (``BN01`` …) is passed over, as in the portal's export.

An answer is parsed whole, and so can't be longer than ``MOST_BYTES``.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.errors import BadFileError
from pipeline.sources.base import Delivery, ReadOptions, Split
from pipeline.sources.datahub_answers import Answer, parse_answer, refuse_errors
from pipeline.sources.datahub_words import QUALITIES, name_units
from pipeline.sources.deliver import Columns, deliver_readings, translate_words
from pipeline.sources.fields import parse_energy, parse_instant, parse_resolution, require_registration

#: Of an answer: some three million observations, where a series has 10,000 at most.
MOST_BYTES = 256 << 20
#: Observations that a delivery has, but for those of its last series.
_BATCH = 100_000
#: Of a field; what series have in common is repeated for each observation that is set aside.
_MOST_CHARACTERS = 1_000
_MARK = re.compile(rb'\s*\{\s*"Retrieve(TimeSeriesData|CustomerResponse)"')
_TIME = pa.timestamp("us", "UTC")


class DatahubJsonSource:
    """Answers with time series; a file is read in one part."""

    name = "datahub-json"

    def recognises(self, path: str, head: bytes, options: ReadOptions) -> bool:
        """Tell an answer by its envelope."""
        del path, options
        return _MARK.match(head.removeprefix(b"\xef\xbb\xbf")) is not None

    def splits(self, path: str, digest: str, options: ReadOptions) -> Sequence[Split]:
        """Check that the file is an answer to its end, and that it or the options say when it was registered.

        Raises:
            BadFileError: damaged, cut short, too long, an error of the interface, or without a registration time.
        """
        answer = _read_answer(path)
        if answer.series is not None and not answer.registered:
            require_registration(path, options)
        rows = 0 if answer.series is None else len(pc.list_flatten(answer.series.field("Observations")))
        return [Split(path, self.name, digest, 0, Path(path).stat().st_size, 1, rows)]

    def read(self, split: Split, options: ReadOptions) -> Iterator[Delivery]:
        """Decode an answer, series by series."""
        answer = _read_answer(split.path)
        if answer.series is None:
            return
        if answer.registered:
            registered = pa.array([answer.registered])
        else:
            registered = pa.array([require_registration(split.path, options)]).cast(_TIME)
        lengths = pc.list_value_length(answer.series.field("Observations")).to_numpy()
        ends = np.cumsum(lengths)
        first, row = 0, 1
        while first < len(lengths):
            stop = int(np.searchsorted(ends, row - 1 + _BATCH)) + 1
            yield _decode(answer.series[first:stop], lengths[first:stop], registered, row)
            row = 1 + int(ends[min(stop, len(ends)) - 1])
            first = stop


def _read_answer(path: str) -> Answer:
    """Read a file, and refuse what is not an answer with time series, or says that there are none."""
    if Path(path).stat().st_size > MOST_BYTES:
        problem = f"it is longer than an answer can be ({MOST_BYTES >> 20} MiB)"
        raise BadFileError(problem, where=path, remedy="ask for shorter periods or fewer points")
    content = Path(path).read_bytes()
    mark = _MARK.match(content.removeprefix(b"\xef\xbb\xbf"))
    if mark and mark[1] == b"CustomerResponse":
        raise BadFileError(
            "it is a customer's record, and has no readings",
            where=path,
            remedy="put it into the reference folder as datahub_customer.json",
        )
    try:
        answer = parse_answer(content)
    except (ValueError, pa.ArrowException):
        raise BadFileError(
            "it is no answer of the interface, or is damaged or cut short", where=path, remedy="fetch it again"
        ) from None
    refuse_errors(answer.reasons, path)
    if answer.series is None:
        if not answer.reasons:
            raise BadFileError("it has no time series, and no reason why", where=path, remedy="fetch it again")
        return answer
    *heads, observations = answer.series.flatten()
    if observations.null_count:
        raise BadFileError("a series has no list of observations", where=path, remedy="fetch it again")
    texts = [*heads, *pc.list_flatten(observations).flatten()]
    if any((pc.max(pc.utf8_length(text)).as_py() or 0) > _MOST_CHARACTERS for text in texts):
        raise BadFileError("a field is longer than any can be", where=path, remedy="check the file")
    return answer


def _decode(series: pa.StructArray, lengths: NDArray[np.int32], registered: pa.Array, row: int) -> Delivery:
    """Decode series.

    Args:
        series: as the answer has them.
        lengths: how many observations each has.
        registered: when all of it was registered, as text or as a time; one element.
        row: number of the first observation in the file.
    """
    point, resolution, product, unit, observations = series.flatten()
    point, product = pc.fill_null(point, ""), pc.fill_null(product, "")
    start, quantity, quality = pc.list_flatten(observations).flatten()
    owner = pa.array(np.repeat(np.arange(len(lengths)), lengths))
    moment = parse_instant(registered) if pa.types.is_string(registered.type) else registered
    all_of_it = pa.array(np.zeros(len(owner), np.int64))
    # One that comes twice is as lost as an empty one.
    twice = pc.or_(pc.match_substring(point, "+"), pc.match_substring(product, "+"))
    columns = Columns(
        metering_point_id=pc.if_else(twice, "", point).dictionary_encode().take(owner),
        product=product.dictionary_encode().take(owner),
        start=parse_instant(start),
        resolution_s=parse_resolution(resolution).take(owner),
        registered_at=moment.take(all_of_it),
        energy=parse_energy(quantity, name_units(product, unit).take(owner), "."),
        status=translate_words(quality, QUALITIES),
        row=np.arange(row, row + len(owner)),
    )
    delivered = {
        "metering_point_id": point.take(owner),
        "product": columns.product,
        "start": start,
        # The unit is shown only where one part can't be read, and then must not be taken for the whole.
        "energy": pc.binary_join_element_wise(
            quantity, unit.take(owner), " ", null_handling="replace", null_replacement=""
        ),
        "resolution": resolution.take(owner),
        "registered_at": registered.take(all_of_it),
        "status": quality,
    }
    return deliver_readings(columns, delivered)
