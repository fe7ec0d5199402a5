"""Text and numbers of feeds to exact values, column by column. Null is what could not be decoded."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.errors import BadFileError, MeterveilError
from pipeline.sources.base import ReadOptions
from pipeline.sources.text_rows import LONGEST, REACH, as_slice, read_decimals
from schemas.series import DAY_S, MAX_ENERGY, MWH_PER_KWH

#: Units of energy as feeds write them, as powers of ten of kWh. Never ``mWh``: it could be meant for either.
UNITS = {"Wh": -3, "WH": -3, "wh": -3, "kWh": 0, "KWh": 0, "KWH": 0, "kwh": 0, "MWh": 3, "MWH": 3, "GWh": 6, "GWH": 6}
#: Decimal places of 1e-6 kWh.
_PLACES = 6
#: Texts that are looked at together, so that what is made of them is still in the processor's cache.
_BLOCK = 1 << 14
_POWERS = 10 ** np.arange(19)
#: What can be multiplied by each of these.
_BOUNDS = MAX_ENERGY // _POWERS
#: Decimal text that fits decimal128(38, 20): any sane value, and the noise of printed floats.
_PLAIN = r"^[+-]?([0-9]{1,18}(\.[0-9]{0,20})?|\.[0-9]{1,20})$"
#: Any number in decimal or exponent form that ``_EXACT`` holds.
_NUMBER = re.compile(r"[+-]?(?=.{1,100}$)([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
_EXACT = Context(prec=120)
#: Digits up to which a decimal can take all places of ``round_decimals`` and stay within 38.
_ROOMY = 28
_TIME = pa.timestamp("us", "UTC")
_LOCAL_FORM = r"^[0-9]{4}-[01][0-9]-[0-3][0-9][ T][0-2][0-9]:[0-5][0-9](:[0-5][0-9](\.[0-9]{1,6})?)?"
_OFFSET_FORM = r"(Z|[+-][0-2][0-9](:?[0-5][0-9])?)"
_DURATION = re.compile(r"P(?:(\d{1,3})D)?(?:T(?:(\d{1,4})H)?(?:(\d{1,5})M)?(?:(\d{1,7})S)?)?", re.IGNORECASE)
_STAMP = re.compile(r"(?<!\d)\d{8}T\d{6}Z(?!\d)")


def parse_energy(text: pa.Array, units: pa.Array, decimal_sign: str) -> pa.Array:
    """Parse decimal text to milliwatt-hours, exactly; more than six decimals of a kWh are rounded once, half to even.

    Args:
        text: strings; empty and ``null`` are null.
        units: strings, plain or dictionary-encoded, the unit of each; of ``UNITS``. Null is none of them.
        decimal_sign: ``.`` or ``,``.

    Returns:
        int64; null where there is no number, an unknown unit, or a value beyond the bounds of a reading.
    """
    digits, decimals, plain = _read_plain(text, decimal_sign)
    if not plain.any():
        return _parse_any(text, units, decimal_sign)
    energy = scale_decimals(pa.array(digits), decimals, units)
    if plain.all():
        return energy
    rest = pa.array(~plain)
    return pc.replace_with_mask(energy, rest, _parse_any(text.filter(rest), units.filter(rest), decimal_sign))


def _read_plain(text: pa.Array, decimal_sign: str) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Read numbers of digits and a decimal sign alone: the digits, how many are behind the sign, and which they are."""
    digits, decimals = np.zeros((2, len(text)), np.int64)
    plain = np.zeros(len(text), bool)
    _, offsets, data = text.buffers()
    if data is None:
        return digits, decimals, plain
    bounds = np.frombuffer(offsets, np.int32, len(text) + 1, text.offset * 4)
    valid = text.is_valid().to_numpy(zero_copy_only=False)
    for first in range(0, len(text), _BLOCK):
        stops = bounds[first + 1 : first + 1 + _BLOCK].astype(np.int64)
        lengths = stops - bounds[first : first + len(stops)]
        likely = valid[first : first + len(stops)] & (lengths > 0) & (lengths <= LONGEST) & (stops >= REACH)
        if not likely.any():
            continue
        chosen = as_slice(np.flatnonzero(likely))
        found = read_decimals(memoryview(data), stops[chosen], lengths[chosen], decimal_sign.encode())
        for column, values in zip((digits, decimals, plain), found, strict=True):
            column[first : first + len(stops)][chosen] = values
    digits[~plain] = decimals[~plain] = 0
    return digits, decimals, plain


def _parse_any(text: pa.Array, units: pa.Array, decimal_sign: str) -> pa.Array:
    text = pc.utf8_trim_whitespace(text)
    text = pc.if_else(pc.is_in(text, pa.array(["", "null"])), None, text)
    if decimal_sign != ".":
        # A point is no decimal sign then: what has one must not be read as if it were.
        text = pc.if_else(pc.match_substring(text, "."), None, text)
        text = pc.replace_substring(text, decimal_sign, ".")
    return _by_unit(text, units, _parse_kwh)


def scale_decimals(digits: pa.Array, decimals: NDArray[np.signedinteger], units: pa.Array) -> pa.Array:
    """Bring decimals that are not negative to milliwatt-hours, like ``parse_energy``.

    Args:
        digits: int64, those of each without the decimal sign, below 10 ** 18.
        decimals: integers, how many of them stand behind the sign, 20 at most.
        units: strings, plain or dictionary-encoded, the unit of each; of ``UNITS``. Null is none of them.

    Returns:
        int64; null where the digits are, for an unknown unit, or a value beyond the bounds of a reading.
    """
    return _by_unit(pa.StructArray.from_arrays([digits, pa.array(decimals)], ["digits", "decimals"]), units, _scale)


def round_decimals(amounts: pa.Array, power: int = 0) -> pa.Array:
    """Round decimals to milliwatt-hours, int64, half to even; null beyond the bounds.

    Args:
        amounts: decimals of any width, counts of a unit.
        power: that unit is 10 ** power kWh.
    """
    shift = _PLACES + power
    kind = amounts.type
    # What is far out of bounds would not fit once it has all places.
    digits = len(str(MAX_ENERGY)) - shift
    if kind.precision - kind.scale > digits:
        inside = pc.less(pc.abs(amounts), pa.scalar(Decimal(10**digits), kind))
        amounts = pc.if_else(inside, amounts, None)
    scale = max(kind.scale, shift)
    wide = pa.types.is_decimal256(kind) or (kind.scale < shift and kind.precision > _ROOMY)
    decimal, precision = (pa.decimal256, 76) if wide else (pa.decimal128, 38)
    amounts = amounts.cast(decimal(precision, scale))
    # The same digits with the point moved are milliwatt-hours.
    buffers = amounts.buffers()
    moved = pa.Array.from_buffers(decimal(precision, scale - shift), len(amounts), buffers, offset=amounts.offset)
    whole = pc.round(moved, ndigits=0, round_mode="half_to_even").cast(decimal(precision, 0))
    inside = pc.less_equal(pc.abs(whole), pa.scalar(MAX_ENERGY).cast(pa.decimal128(19, 0)))
    return pc.if_else(inside, whole, None).cast(pa.int64())


def round_floats(kwh: pa.Array) -> pa.Array:
    """Round floats of kWh to milliwatt-hours, int64, half to even; null where not finite or beyond the bounds."""
    values = kwh.cast(pa.float64()).fill_null(np.nan).to_numpy()
    units = np.rint(values * MWH_PER_KWH)
    bad = ~(np.abs(units) <= MAX_ENERGY)  # also where it is no number
    return pa.array(np.where(bad, 0, units).astype(np.int64), mask=bad)


def parse_instant(text: pa.Array) -> pa.Array:
    """Parse ISO 8601 times with an offset to timestamp[us, UTC]; null where that is not what stands there."""
    return _cast_or_null(pc.utf8_trim_whitespace(text), _TIME, f"{_LOCAL_FORM}{_OFFSET_FORM}$")


def parse_local(text: pa.Array) -> pa.Array:
    """Parse ISO 8601 local times without an offset to timestamp[us]; null where that is not what stands there."""
    return _cast_or_null(pc.utf8_trim_whitespace(text), pa.timestamp("us"), f"{_LOCAL_FORM}$")


def parse_resolution(text: pa.Array) -> pa.Array:
    """Parse ISO 8601 durations (``PT15M``, ``PT1H``, ``P1D``) to seconds, int32; null where none stands there."""
    encoded = text.cast(pa.string()).dictionary_encode()
    seconds = [_duration_s(value or "") for value in encoded.dictionary.to_pylist()]
    return pa.array(seconds, pa.int32()).take(encoded.indices)


def require_registration(path: str, options: ReadOptions) -> int:
    """Find the registration time of a file that holds none: microseconds UTC.

    Raises:
        BadFileError: the options say none, or the file's name has no stamp.
        MeterveilError: the option is no time.
    """
    if options.registered_at is None:
        raise BadFileError(
            "the file does not say when its values were registered",
            where=path,
            remedy="give --registered-at: a time with its offset, now, or file-name",
        )
    if options.registered_at == "file-name":
        stamps = _STAMP.findall(Path(path).name)
        if len(stamps) != 1:
            raise BadFileError(
                "its name does not hold one time stamp",
                where=path,
                remedy="name it with a stamp such as 20260330T040000Z, or give --registered-at a time",
            )
        return parse_stamp(stamps[0])
    try:
        return parse_stamp(options.registered_at)
    except ValueError:
        raise MeterveilError(
            "the registration time is no ISO 8601 time with an offset",
            where="--registered-at",
            remedy="write it as 2026-03-30T04:00:00Z",
        ) from None


def parse_stamp(text: str) -> int:
    """Parse one ISO 8601 time, basic or extended, to microseconds UTC.

    Raises:
        ValueError: it is none, or has no offset.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("no offset")
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * DAY_S + since.seconds) * 1_000_000 + since.microseconds


def _by_unit(column: pa.Array, units: pa.Array, convert: Callable[[pa.Array, int], pa.Array]) -> pa.Array:
    """Convert values to milliwatt-hours, by the power of ten of kWh that their unit is; null where it is none."""
    encoded = units if pa.types.is_dictionary(units.type) else units.cast(pa.string()).dictionary_encode()
    names = [name.strip() if name else "" for name in encoded.dictionary.to_pylist()]
    if len(names) == 1 and names[0] in UNITS and encoded.null_count == 0:
        return convert(column, UNITS[names[0]])
    energy = pa.nulls(len(column), pa.int64())
    for code, name in enumerate(names):
        if name in UNITS:
            chosen = pc.fill_null(pc.equal(encoded.indices, code), False)
            energy = pc.replace_with_mask(energy, chosen, convert(column.filter(chosen), UNITS[name]))
    return energy


def _scale(numbers: pa.StructArray, power: int) -> pa.Array:
    digits, decimals = (numbers.field(name) for name in ("digits", "decimals"))
    amounts, shift = digits.fill_null(0).to_numpy(), _PLACES + power - decimals.to_numpy()
    if not shift.any() and amounts.max(initial=0) <= MAX_ENERGY:  # as most feeds write them
        return digits
    factor = np.maximum(shift, 0)
    outside = amounts > _BOUNDS[factor]
    amounts = amounts * _POWERS[factor]
    if (shift < 0).any():
        divisor = _POWERS[np.maximum(-shift, 0)]
        whole, rest = np.divmod(amounts, divisor)
        # Half to even: what is left over is compared with its half, in integers.
        amounts = whole + (2 * rest + (whole & 1) > divisor)
        outside = np.where(shift < 0, amounts > MAX_ENERGY, outside)
    return pc.if_else(digits.is_valid(), pa.array(amounts, mask=outside), None)


def _parse_kwh(text: pa.Array, power: int) -> pa.Array:
    """Parse decimal text with a point: at once where no value has more digits than are kept, else by what it has."""
    try:
        # By way of decimal128: text of many digits overflows decimal64 in silence.
        exact = text.cast(pa.decimal128(18, _PLACES + power)).cast(pa.decimal64(18, _PLACES + power))
    except pa.ArrowInvalid:
        plain = pc.if_else(pc.match_substring_regex(text, _PLAIN), text, None)
        energy = round_decimals(plain.cast(pa.decimal128(38, 20)), power)
        left = pc.and_(text.is_valid(), plain.is_null())
        rare = text.filter(left).dictionary_encode()
        values = pa.array([_round_text(value, power) for value in rare.dictionary.to_pylist()], pa.int64())
        return pc.replace_with_mask(energy, left, values.take(rare.indices))
    energy = pa.Array.from_buffers(pa.int64(), len(exact), exact.buffers(), offset=exact.offset)
    return pc.if_else(pc.less_equal(pc.abs(energy), MAX_ENERGY), energy, None)


def _round_text(text: str, power: int) -> int | None:
    """Round a number of many digits, or in exponent form, as floats near zero are printed (``1.1e-16``)."""
    if not _NUMBER.fullmatch(text):
        return None
    try:
        units = int(_EXACT.scaleb(Decimal(text), _PLACES + power).to_integral_value(ROUND_HALF_EVEN))
    except InvalidOperation:
        return None
    return units if abs(units) <= MAX_ENERGY else None


def _duration_s(text: str) -> int | None:
    found = _DURATION.fullmatch(text.strip())
    if found is None or not any(found.groups()):
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    total = days * DAY_S + hours * 3_600 + minutes * 60 + seconds
    return total if total <= DAY_S else None


def _cast_or_null(text: pa.Array, kind: pa.DataType, form: str) -> pa.Array:
    """Cast strings; what does not cast is null. A column without a fault costs one cast.

    Args:
        text: strings.
        kind: type to cast to.
        form: expression that all but a few of the strings that cast match, and the others don't.
    """
    try:
        return text.cast(kind)
    except pa.ArrowInvalid:
        likely = pc.if_else(pc.match_substring_regex(text, form), text, None).dictionary_encode()
        return pa.concat_arrays(_cast_by_halves(likely.dictionary, kind)).take(likely.indices)


def _cast_by_halves(text: pa.Array, kind: pa.DataType) -> list[pa.Array]:
    """Find the few strings that do not cast (30 February) by halving."""
    try:
        return [text.cast(kind)]
    except pa.ArrowInvalid:
        if len(text) == 1:
            return [pa.nulls(1, kind)]
        middle = len(text) // 2
        return [*_cast_by_halves(text[:middle], kind), *_cast_by_halves(text[middle:], kind)]
