import pytest
from source_cases import POINT, SHARED, read_file, read_in_parts

from pipeline.errors import BadFileError, MeterveilError
from pipeline.sources.base import ReadOptions
from pipeline.sources.registry import plan_file

OPTIONS = ReadOptions(registered_at="2026-01-01T00:00:00Z", metering_point=POINT)
OLD = "Mittauspisteen tunnus;Tuotteen tyyppi;Resoluutio;Yksikkötyyppi;Alkuaika;Määrä;Laatu"
NEW = "Mittauspisteen tunnus;Tuotteen tyyppi;Resoluutio;Yksikkötyyppi;Lukeman tyyppi;Alkuaika;Määrä;Laatu"
ENGLISH = "MeteringPointGSRN;Product Type;Resolution;Unit Type;Reading Type;Start Time;Quantity;Quality"


def line(slot=0, quantity="0,640000", quality="OK", point=POINT, unit="kWh", product="8716867000030"):
    return (
        f"{point};{product};PT15M;{unit};BN01;2026-01-01T{slot // 4:02d}:{slot % 4 * 15:02d}:00Z;{quantity};{quality}"
    )


def write(path, *lines, header=ENGLISH, encoding="utf-8", end="\n", last=""):
    path.write_bytes((end.join([header, *lines]) + last).encode(encoding))
    return path


def energies(path, options=OPTIONS):
    good, rejected = read_file(path, options)
    return [reading[5] for reading in good], [(row["row"], row["reason"]) for row in rejected]


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared sample data is not here")
@pytest.mark.parametrize(
    ("name", "count", "total", "missing"),
    [
        ("consumption.csv", 6_909, 6_566_010_000, 0),
        ("quarter-consumption-test.csv", 96, 31_060_000, 0),
        ("extra-15min-error.csv", 101, 36_390_000, 0),
        ("consumption-with-null.csv", 624, 654_720_000, 9),
        ("consumption-with-null-only.csv", 10, 1_150_000, 9),
    ],
)
def test_real_exports(name, count, total, missing):
    path = SHARED / "datahub_csv" / name
    good, rejected = read_file(path, OPTIONS)
    assert rejected == []
    assert (len(good), sum(reading[5] for reading in good)) == (count, total)
    assert sum(reading[6] == 0 for reading in good) == missing
    assert {reading[0] for reading in good} == {POINT}
    if count > 100:
        assert read_in_parts(path, OPTIONS, split_bytes=2_000) == (good, [])


@pytest.mark.parametrize("header", [NEW, ENGLISH])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1"])
@pytest.mark.parametrize(("end", "last"), [("\n", ""), ("\n", "\n"), ("\r\n", "\r\n"), ("\r\n", "\r\n\r\n")])
def test_variants_give_the_same_readings(tmp_path, header, encoding, end, last):
    rows = [line(0), line(1, "1,56"), line(2, "", "MISSING"), line(3, "null", "MISSING"), line(4, "-2")]
    path = write(tmp_path / "f.csv", *rows, header=header, encoding=encoding, end=end, last=last)
    assert energies(path) == ([640_000, 1_560_000, 0, 0, -2_000_000], [])


def test_seven_columns(tmp_path):
    rows = [f"{POINT};0;PT1H;kWh;2022-01-01T00:00:00Z;1,56;OK"]
    assert energies(write(tmp_path / "f.csv", *rows, header=OLD)) == ([1_560_000], [])


def test_where_a_number_ends_the_line_the_last_line_needs_an_end(tmp_path):
    """A tool that puts the columns in another order: a file cut within its last number has a shorter one."""
    swapped = [
        ";".join([*fields[:-2], fields[-1], fields[-2]]) for fields in (line(0).split(";"), line(1, "1,56").split(";"))
    ]
    header = ";".join([*ENGLISH.split(";")[:-2], "Quality", "Quantity"])
    assert energies(write(tmp_path / "f.csv", *swapped, header=header, last="\n")) == ([640_000, 1_560_000], [])
    cut = write(tmp_path / "f.csv", swapped[0], swapped[1][:-1], header=header)
    assert energies(cut) == ([640_000], [(3, "unreadable_row")])


def test_units(tmp_path):
    rows = [line(0, "1,5", unit="Wh"), line(1, "1,5"), line(2, "0,123456789", unit="MWh"), line(3, "1", unit="mWh")]
    assert energies(write(tmp_path / "f.csv", *rows)) == ([1_500, 1_500_000, 123_456_789], [(5, "bad_energy")])


def test_every_fault_ends_in_quarantine_with_its_line(tmp_path, monkeypatch):
    rows = [
        line(0),
        "junk",
        line(1) + ";more",
        "",
        line(2, "abc"),
        line(3, ""),
        line(4, quality="FINE"),
        line(5, point="6,43007E+17"),
        line(6, product="8,71687E+12"),
        line(7, point=""),
        line(8).replace("PT15M", "PT7M"),
        line(9).replace("Z;", ";"),
        line(10).replace("2026-01-01", "2026-02-30"),
        line(11, "1.5"),
        line(12, "100000000"),
        ";;;;;;;",
        line(13, '"1,5'),
        line(14, '"2,5"'),
        line(15, "NaN", "MISSING"),
        line(16, "0,0000005"),
        line(17, "1e-16"),
        line(18, "0,1234567890123456789012345"),
    ]
    path = write(tmp_path / "f.csv", *rows)
    found, rejected = energies(path)
    assert found == [640_000, 2_500_000, 0, 0, 0, 123_457]
    assert sorted(rejected) == [
        (3, "unreadable_row"),
        (4, "unreadable_row"),
        (6, "bad_energy"),
        (7, "bad_energy"),
        (8, "unknown_status"),
        (9, "mangled_identifier"),
        (10, "mangled_identifier"),
        (11, "mangled_identifier"),
        (12, "unreadable_row"),
        (13, "unreadable_row"),
        (14, "unreadable_row"),
        (15, "bad_energy"),
        (16, "bad_energy"),
        (18, "unreadable_row"),
    ]
    whole = read_file(path, OPTIONS)
    parts = read_in_parts(path, OPTIONS, split_bytes=100)
    assert whole[0] == parts[0]
    assert sorted(whole[1], key=lambda row: row["row"]) == sorted(parts[1], key=lambda row: row["row"])
    monkeypatch.setattr("pipeline.sources.delimited_lines.PART_BYTES", 100)
    parts = read_file(path, OPTIONS)
    assert whole[0] == parts[0]
    assert sorted(whole[1], key=lambda row: row["row"]) == sorted(parts[1], key=lambda row: row["row"])


def test_rejected_fields_stand_as_understood_or_else_as_delivered(tmp_path):
    rejected = read_file(write(tmp_path / "f.csv", line(0), line(4, "0,5", "FINE")), OPTIONS)[1]
    assert rejected[0] == {
        "row": 3,
        "position": 0,
        "reason": "unknown_status",
        "metering_point_id": POINT,
        "product": "8716867000030",
        "start": "2026-01-01T01:00:00Z",
        "resolution": "PT15M",
        "registered_at": "2026-01-01T00:00:00Z",
        "energy": "0.500000",
        "status": "FINE",
        "decoded_energy": 500_000,
    }


def test_a_quote_that_is_never_closed_costs_its_own_line_only(tmp_path):
    rows = [line(0), line(1, '0,1"x'), line(2, '"0,2'), line(3), '"' + line(4), line(5)]
    assert energies(write(tmp_path / "f.csv", *rows)) == (
        [640_000] * 3,
        [(row, "unreadable_row") for row in (3, 4, 6)],
    )


def test_bytes_of_no_encoding_cost_their_own_line_only(tmp_path):
    path = write(tmp_path / "f.csv", line(0), line(1), line(2))
    path.write_bytes(path.read_bytes().replace(b"00:15:00Z;0,64", b"00:15:00Z;0,\xff4"))
    assert energies(path) == ([640_000] * 2, [(3, "unreadable_row")])


def test_a_mark_of_byte_order_is_no_part_of_an_id(tmp_path):
    """Files with a mark that were joined: in whatever parts they are read, the same comes out."""
    for mark in ("\ufeff", "\ufeff\ufeff"):
        rows = [line(0), *(f"{mark}{text}" for text in (line(1), ENGLISH, line(2), line(3))), f"{mark};;;;;;;"]
        path = write(tmp_path / "f.csv", *rows, last="\n")
        good, rejected = read_file(path, OPTIONS)
        assert {reading[0] for reading in good} == {POINT}
        assert (len(good), [row["row"] for row in rejected]) == (4, [4])
        for size in (1, 100, 200):
            assert read_in_parts(path, OPTIONS, split_bytes=size) == (good, rejected)


def test_a_customers_own_export_takes_its_id_from_the_option(tmp_path):
    path = write(tmp_path / "f.csv", line(0, point=""), line(1, point="0"), line(2, point="643003825107340356"))
    good, rejected = read_file(path, OPTIONS)
    assert ([reading[0] for reading in good], rejected) == (["643003825107340356", POINT, POINT], [])
    with pytest.raises(BadFileError, match="--metering-point"):
        plan_file(str(path), ReadOptions(registered_at="2026-01-01T00:00:00Z"))


def test_registration_time_comes_from_the_name_or_the_option(tmp_path):
    path = write(tmp_path / "export_20260330T040000Z.csv", line(0))
    good, _ = read_file(path, ReadOptions(registered_at="file-name"))
    assert good[0][4] == 1_774_843_200_000_000
    with pytest.raises(BadFileError, match="--registered-at"):
        plan_file(str(path), ReadOptions())
    with pytest.raises(MeterveilError, match="ISO 8601"):
        plan_file(str(path), ReadOptions(registered_at="2026-03-30 04:00"))
    with pytest.raises(BadFileError, match="time stamp"):
        plan_file(str(path.rename(tmp_path / "export.csv")), ReadOptions(registered_at="file-name"))


def test_a_header_alone_holds_no_reading(tmp_path):
    assert plan_file(str(write(tmp_path / "f.csv")), OPTIONS) == []
    assert energies(write(tmp_path / "g.csv", "", "", last="\n")) == ([], [])


def test_another_csv_is_refused(tmp_path):
    path = write(tmp_path / "f.csv", "1;2", header="name;phone")
    with pytest.raises(BadFileError, match="datahub-csv"):
        plan_file(str(path), OPTIONS)
    with pytest.raises(BadFileError, match="first line"):
        plan_file(str(path), ReadOptions(format="datahub-csv", registered_at="2026-01-01T00:00:00Z"))
