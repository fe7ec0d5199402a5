"""Check digits beside python-stdnum, and NMI checksums beside published ones."""

import pyarrow as pa
import pytest

from transforms.identifiers import Verdict, check_points, judge_identifiers, nmi_checksum

#: Published with the National Metering Identifier Procedure and in the public package nmicheck.
CHECKSUMS = [
    ("2001985732", "8"),
    ("2001985733", "6"),
    ("7102000001", "7"),
    ("QAAAVZZZZZ", "3"),
    ("QCDWW00010", "2"),
    ("qcdww00010", "2"),
    ("VKTS876510", "8"),
]


@pytest.mark.parametrize(("nmi", "checksum"), CHECKSUMS)
def test_checksums_of_nmis(nmi, checksum):
    assert nmi_checksum(nmi) == checksum


@pytest.mark.parametrize(("nmi", "checksum"), CHECKSUMS)
def test_only_the_right_checksum_is_right(nmi, checksum):
    ids = pa.array([f"{nmi.upper()}{digit}-E1" for digit in range(10)])
    assert [digit for digit, right in enumerate(check_points(ids)) if right] == [int(checksum)]


@pytest.mark.parametrize(
    ("point", "verdict"),
    [
        ("643006966022791278", Verdict.RIGHT),
        ("571313180400013562", Verdict.WRONG),
        ("6430076050014", Verdict.RIGHT),
        ("6430076050015", Verdict.WRONG),
        ("VKTS8765108-E1", Verdict.RIGHT),
        ("VKTS8765107-E1", Verdict.WRONG),
        ("VKTS876510-B1", Verdict.UNCHECKED),
        ("VKTS876510", Verdict.UNCHECKED),
        ("HEAT-7", Verdict.UNCHECKED),
        ("", Verdict.UNCHECKED),
    ],
)
def test_points(point, verdict):
    assert judge_identifiers("metering_point_id", pa.array([point, point, None]))[verdict] == 1


def test_points_that_are_flagged():
    ids = ["643006966022791278", "643006966022791279", "VKTS876510-E1", "VKTS8765107-E1", "VKTS876510", None, "I" * 10]
    assert check_points(pa.array(ids)).tolist() == [True, False, True, False, False, False, False]


@pytest.mark.parametrize(
    ("kind", "right", "wrong"),
    [
        ("identity_code", ["131052-308T", "010100A900T".replace("900T", "9014")], ["131052-308U", "320152-308X", ""]),
        ("business_id", ["2077474-0"], ["2077474-1", "2077474", "x"]),
    ],
)
def test_people_and_companies(kind, right, wrong):
    found = judge_identifiers(kind, pa.array([*right[:1], *wrong]))
    assert (found[Verdict.RIGHT], found[Verdict.WRONG]) == (1, len(wrong))
