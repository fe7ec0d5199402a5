"""Check digits of identifiers, looked at once for each distinct one. A wrong one is worth a look, never a fault."""

import re
from collections.abc import Callable
from enum import StrEnum

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from stdnum import ean
from stdnum.fi import hetu, ytunnus

from transforms.gsrn import check_gsrn

#: An NMI (National Metering Identifier of the Australian market) with the suffix of a stream, as NEM12 and NEM13 are
#: read: ten characters without I and O, perhaps its checksum, and the suffix.
_NMI = re.compile(r"([0-9A-HJ-NP-Z]{10})([0-9]?)-[0-9A-Z]{1,2}")
_NMI_FORM = r"^[0-9A-HJ-NP-Z]{10}[0-9]?-[0-9A-Z]{1,2}$"
_GLN = re.compile(r"[0-9]{13}")


class Verdict(StrEnum):
    """What an identifier's own characters say."""

    RIGHT = "right"
    WRONG = "wrong"
    #: It has no check digit, or is of no kind that is known here.
    UNCHECKED = "unchecked"


def check_points(ids: pa.Array) -> npt.NDArray[np.bool_]:
    """Tell which ids of metering points show no fault: a right GSRN, or an NMI whose checksum, if it has one, is right.

    Args:
        ids: distinct strings; a null is none.

    Returns:
        One bool per id.
    """
    right = check_gsrn(ids)
    others = np.flatnonzero(pc.match_substring_regex(ids, _NMI_FORM).fill_null(False).to_numpy(zero_copy_only=False))
    right[others] = [_judge_nmi(text) is not Verdict.WRONG for text in ids.take(pa.array(others)).to_pylist()]
    return right


def judge_identifiers(kind: str, ids: pa.Array) -> dict[Verdict, int]:
    """Count distinct identifiers by what their check digit says.

    Args:
        kind: a column of a feed: ``metering_point_id`` (GSRN, GLN or NMI), ``identity_code`` (Finnish personal identity
            code) or ``business_id`` (Finnish).
        ids: strings; a null is none.
    """
    judge = _JUDGES[kind]
    verdicts = [judge(text) for text in ids.drop_null().unique().to_pylist()]
    return {verdict: verdicts.count(verdict) for verdict in Verdict}


def nmi_checksum(nmi: str) -> str:
    """Give the checksum of the ten characters of an NMI (AEMO, National Metering Identifier Procedure).

    From the right, the ASCII code of every other character, the last one first, is doubled; the digits of all codes are
    summed; the checksum is what is missing to the next ten.
    """
    codes = [ord(character) << place % 2 for place, character in enumerate(nmi.upper())]
    return str(-sum(int(digit) for code in codes for digit in str(code)) % 10)


def _judge_point(text: str) -> Verdict:
    if len(text) == 18 and text.isdecimal():
        return _say(check_gsrn(pa.array([text]))[0])
    if _GLN.fullmatch(text):
        return _say(ean.is_valid(text))
    return _judge_nmi(text)


def _judge_nmi(text: str) -> Verdict:
    found = _NMI.fullmatch(text)
    if found is None or not found.group(2):
        return Verdict.UNCHECKED
    return _say(nmi_checksum(found.group(1)) == found.group(2))


def _judge_person(text: str) -> Verdict:
    # Numbers 900-999 are for tests; stdnum takes them for wrong unless told.
    return _say(hetu.is_valid(text, allow_temporary=True))


def _judge_company(text: str) -> Verdict:
    return _say(ytunnus.is_valid(text))


def _say(right: object) -> Verdict:
    return Verdict.RIGHT if right else Verdict.WRONG


_JUDGES: dict[str, Callable[[str], Verdict]] = {
    "metering_point_id": _judge_point,
    "identity_code": _judge_person,
    "business_id": _judge_company,
}
