"""GSRN: the 18 digits that name a metering point, the last of them a check digit."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

_DIGITS = 18
#: Weights of GS1's modulo 10 check digit, the check digit itself included: a valid number sums to a multiple of ten.
_WEIGHTS = np.array([3, 1] * (_DIGITS // 2), np.int64)


def check_gsrn(ids: pa.Array) -> npt.NDArray[np.bool_]:
    """Tell which ids are a GSRN with the right check digit (GS1 General Specifications, section 7.9).

    Args:
        ids: strings; a null is no GSRN.

    Returns:
        One bool per id.
    """
    long_enough = pc.fill_null(pc.equal(pc.binary_length(ids), _DIGITS), False)
    valid: npt.NDArray[np.bool_] = long_enough.to_numpy(zero_copy_only=False).copy()
    candidates = ids.filter(long_enough).cast(pa.binary()).cast(pa.binary(_DIGITS))
    # Unsigned: every byte below "0" wraps round to far above 9.
    text = np.frombuffer(candidates.buffers()[1], np.uint8)[candidates.offset * _DIGITS :]
    digits = text[: len(candidates) * _DIGITS].reshape(-1, _DIGITS) - np.uint8(ord("0"))
    valid[valid] = (digits <= 9).all(axis=1) & (digits @ _WEIGHTS % 10 == 0)
    return valid
