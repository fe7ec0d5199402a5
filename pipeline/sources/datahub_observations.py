"""Observations of an E66 message, of many series, to a delivery."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.sources.base import Delivery
from pipeline.sources.datahub_runs import PLACES, Run
from pipeline.sources.datahub_words import name_units
from pipeline.sources.deliver import Columns, deliver_shown, translate_words
from pipeline.sources.fields import parse_energy, parse_instant, parse_resolution, scale_decimals
from schemas.status import Status

#: Observations that follow each other: one by one, as number, quantity, quality and what is said of a missing value, or
#: a run of them.
Part = list[tuple[str | None, ...]] | Run
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
_NUMBER_FORM = "^[0-9]{1,6}$"
_TIME = pa.timestamp("us", "UTC")


def decode_series(
    heads: Sequence[tuple[str, ...]],
    lengths: Sequence[int],
    parts: Sequence[Part],
    first_row: int,
    fallback: int | None,
) -> Delivery:
    """Decode series.

    Args:
        heads: of each, as they stand in the file: metering point, product, unit, resolution, start, registration time.
        lengths: how many observations each has.
        parts: these, in order.
        first_row: number of the first of them in the file.
        fallback: when series are registered whose message does not say it, in microseconds UTC.
    """
    point, product, unit, resolution, start, registered = (
        pa.array(column, pa.string()) for column in zip(*heads, strict=True)
    )
    owner = pa.array(np.repeat(np.arange(len(lengths)), lengths))
    units = name_units(product, unit).dictionary_encode().take(owner)
    number, energy, status = _decode_parts(parts, units)
    seconds = parse_resolution(resolution)
    # Unread durations would be multiplied as null, which the checks of every format then name.
    length = pc.multiply(seconds.cast(pa.int64()), 1_000_000)
    steps = pc.multiply(pc.subtract(number, 1), length.take(owner))
    moments = _parse_time(registered)
    if fallback is not None:
        moments = pc.if_else(pc.equal(registered, ""), pa.scalar(fallback).cast(_TIME), moments)
    # One that comes twice is as lost as an empty one.
    twice = pc.or_(pc.match_substring(point, "+"), pc.match_substring(product, "+"))
    columns = Columns(
        metering_point_id=pc.if_else(twice, "", point).dictionary_encode().take(owner),
        product=product.dictionary_encode().take(owner),
        start=pc.add(_parse_time(start).view(pa.int64()).take(owner), steps).view(_TIME),
        resolution_s=seconds.take(owner),
        registered_at=moments.take(owner),
        energy=energy,
        status=status,
        row=np.arange(first_row, first_row + len(owner)),
    )

    def show(taken: pa.Array) -> dict[str, pa.Array]:
        number, quantity, quality, missing = _show_parts(parts, taken.to_numpy())
        of = owner.take(taken)
        return {
            "metering_point_id": point.take(of),
            "product": product.take(of),
            # Both are shown only where one part can't be read, and then must not be taken for the whole.
            "start": _join(start.take(of), " SEQ ", number),
            "energy": _join(quantity, " ", unit.take(of)),
            "resolution": resolution.take(of),
            "registered_at": registered.take(of),
            "status": _find_words(quantity, quality, missing),
        }

    return deliver_shown(columns, show)


def _decode_parts(parts: Sequence[Part], units: pa.DictionaryArray) -> list[pa.Array]:
    """Decode observations: number, int64, from 1; energy, int64; status, int8. Null is what can't be read."""
    runs = [part for part in parts if isinstance(part, Run)]
    others = [one for part in parts if not isinstance(part, Run) for one in part]
    alone = np.repeat([not isinstance(part, Run) for part in parts], [len(part) for part in parts])
    decoded = []
    if runs:
        decoded.append(_decode_runs(runs, units.filter(pa.array(~alone))))
    if others:
        decoded.append(_decode_texts(_as_texts(others), units.filter(pa.array(alone))))
    # Runs stand before the others now; each goes back to its place.
    place = np.empty(len(alone), np.int64)
    place[np.argsort(alone, stable=True)] = np.arange(len(alone))
    number, energy, status = (pa.concat_arrays(columns).take(pa.array(place)) for columns in zip(*decoded, strict=True))
    return [pc.if_else(pc.greater(number, 0), number, None), energy, status]


def _decode_runs(runs: Sequence[Run], units: pa.DictionaryArray) -> tuple[pa.Array, pa.Array, pa.Array]:
    number, amounts, kind = (
        np.concatenate([getattr(run, name) for run in runs]) for name in ("number", "quantity", "kind")
    )
    quantity, quality, missing = (pa.array(column, pa.string()) for column in zip(*runs[0].kinds, strict=True))
    status = translate_words(_find_words(quantity, quality, missing), _WORDS)
    lacking = quantity.is_null().to_numpy(zero_copy_only=False)[kind]
    energy = scale_decimals(pa.array(amounts, mask=lacking), np.full(len(amounts), PLACES, np.int8), units)
    return pa.array(number), energy, status.take(pa.array(kind))


def _decode_texts(texts: Sequence[pa.Array], units: pa.DictionaryArray) -> tuple[pa.Array, pa.Array, pa.Array]:
    number, quantity, quality, missing = texts
    places = pc.if_else(pc.match_substring_regex(number, _NUMBER_FORM), number, None).cast(pa.int64())
    status = translate_words(_find_words(quantity, quality, missing), _WORDS)
    return places, parse_energy(quantity, units, "."), status


def _show_parts(parts: Sequence[Part], taken: NDArray[np.int64]) -> list[pa.Array]:
    """Show observations as they stand in the file: number, quantity, quality, what is said of a missing value."""
    begins = np.cumsum([0, *(len(part) for part in parts)])
    owners = np.searchsorted(begins, taken, side="right") - 1
    shown = []
    for owner, place in zip(owners.tolist(), (taken - begins[owners]).tolist(), strict=True):
        part = parts[owner]
        shown.append(part.show(place) if isinstance(part, Run) else part[place])
    return _as_texts(shown)


def _as_texts(observations: Sequence[tuple[str | None, ...]]) -> list[pa.Array]:
    return [pa.array(column, pa.string()) for column in zip(*observations, strict=True)]


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
