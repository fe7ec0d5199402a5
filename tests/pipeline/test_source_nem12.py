import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st
from source_cases import read_file, read_in_parts

from pipeline.errors import BadFileError
from pipeline.sources.base import ReadOptions
from pipeline.sources.registry import load_source, plan_file, read_split
from schemas.status import Status
from transforms.calendar import local_calendar
from transforms.pieces import locate

ACTIVE, REACTIVE = "8716867000030", "8716867000047"
STANDARD = dt.timezone(dt.timedelta(hours=10))
HEADER, END = "100,NEM12,200405011135,MDA1,Ret1", "900"
STREAM = "200,VABD000163,E1Q1,1,E1,N1,METSER123,kWh,30,"
UPDATED = "20040202120025,20040202142516"


def day(values, date="20040201", quality="A", end=f",,{UPDATED}"):
    return f"300,{date},{','.join(map(str, values))},{quality},{end}"


def write(folder, *lines, header=HEADER, end=END, name="f.csv", newline="\n"):
    path = folder / name
    path.write_bytes((newline.join([header, *lines, end]) + newline).encode())
    return path


def read(folder, *lines, options=None, **more):
    good, rejected = read_file(write(folder, *lines, **more), options)
    return good, [(row["row"], row["position"], row["reason"]) for row in rejected]


def at(text):
    return int(dt.datetime.fromisoformat(text).replace(tzinfo=STANDARD).timestamp()) * 1_000_000


def statuses(good):
    return [Status(reading[6]).name for reading in sorted(good, key=lambda reading: reading[2])]


def test_a_day_of_active_and_reactive_energy(tmp_path):
    # Values, units and times as in the market operator's example of actual interval data.
    good, rejected = read(
        tmp_path,
        STREAM,
        day([1.111] * 48),
        "200,VABD000163,E1Q1,2,Q1,,METSER123,kVArh,30,",
        day([2.222] * 48),
    )
    assert rejected == []
    times = [at("2004-02-01T00:00") + slot * 1_800_000_000 for slot in range(48)]
    registered = at("2004-02-02T12:00:25")
    assert good == [("VABD000163-E1", ACTIVE, time, 1800, registered, 1_111_000, Status.OK) for time in times] + [
        ("VABD000163-Q1", REACTIVE, time, 1800, registered, 2_222_000, Status.OK) for time in times
    ]


@pytest.mark.parametrize(
    ("unit", "milliwatt_hours", "product"),
    [
        ("Wh", 10_000, ACTIVE),
        ("KWH", 10_000_000, ACTIVE),
        ("MWh", 10_000_000_000, ACTIVE),
        ("VArh", 10_000, REACTIVE),
        ("kvarh", 10_000_000, REACTIVE),
        ("MVArh", 10_000_000_000, REACTIVE),
    ],
)
def test_units(tmp_path, unit, milliwatt_hours, product):
    good, _ = read(tmp_path, f"200,NCDE001111,E1B1Q1E2,2,B1,N1,METSER123,{unit},15,", day([10] * 96))
    assert {(reading[0], reading[1], reading[3], reading[5]) for reading in good} == {
        ("NCDE001111-B1", product, 900, milliwatt_hours)
    }


@pytest.mark.parametrize("unit", ["kW", "V", "pf", "kVAh", ""])
def test_what_is_no_energy_is_set_aside_even_where_it_is_missing(tmp_path, unit):
    stream = STREAM.replace("kWh", unit)
    good, rejected = read(tmp_path, stream, day([1] * 48), day([0] * 48, quality="N"), STREAM, day([2] * 48))
    assert {reading[5] for reading in good} == {2_000_000}
    assert rejected == [(row, slot, "bad_energy") for row in (3, 4) for slot in range(48)]


def test_qualities_of_parts_of_a_day(tmp_path):
    # The ranges of the market operator's example of several qualities.
    events = ["400,1,20,F14,76,", "400,21,24,A,,", "400,25,48,S14,1,"]
    good, rejected = read(tmp_path, STREAM, day([1] * 48, quality="V"), *events, day([1] * 48, "20040202"))
    assert rejected == []
    assert statuses(good) == ["ESTIMATED"] * 20 + ["OK"] * 4 + ["ESTIMATED"] * 24 + ["OK"] * 48


@pytest.mark.parametrize(
    ("quality", "events", "expected"),
    [
        ("A", [], ["OK"] * 4),
        ("E52", [], ["ESTIMATED"] * 4),
        ("S14", [], ["ESTIMATED"] * 4),
        ("f14", [], ["ESTIMATED"] * 4),
        ("N", [], ["MISSING"] * 4),
        ("V", [], ["PARTIAL"] * 4),
        ("V", ["400,2,3,A,,"], ["PARTIAL", "OK", "OK", "PARTIAL"]),
        ("V", ["400,1,48,A,,", "400,2,2,S14,1,"], ["OK", "ESTIMATED", "OK", "OK"]),
        ("V", ["400,2,2,S14,1,", "400,1,48,A,,"], ["OK", "ESTIMATED", "OK", "OK"]),
        ("A", ["400,2,2,A,79,Power Outage Alarm"], ["OK"] * 4),
        ("A", ["400,2,2,E52,,"], ["OK", "ESTIMATED", "OK", "OK"]),
        ("X", [], [None] * 4),
        ("", [], [None] * 4),
        ("A14B", [], [None] * 4),
        ("V", ["400,1,48,A,,", "400,2,2,X,,"], ["OK", None, "OK", "OK"]),
        ("V", ["400,1,48,A,,", "400,2,2,V,,"], ["OK", None, "OK", "OK"]),
    ],
)
def test_a_quality_is_the_weakest_that_is_said_and_an_unknown_one_is_set_aside(tmp_path, quality, events, expected):
    good, rejected = read(tmp_path, STREAM, day([1] * 48, quality=quality), *events)
    found = {(reading[2] - at("2004-02-01T00:00")) // 1_800_000_000: Status(reading[6]).name for reading in good}
    assert [found.get(slot) for slot in range(4)] == expected
    unknown = [slot for slot in range(48) if slot not in found]
    assert rejected == [(3, slot, "unknown_status") for slot in unknown]


@pytest.mark.parametrize("event", ["400,0,2,A,,", "400,3,2,A,,", "400,1,49,A,,", "400,x,2,A,,", "400", "400,1,2;A"])
def test_a_quality_that_can_t_be_read_is_set_aside_and_its_values_are_not_lost(tmp_path, event):
    good, rejected = read(tmp_path, STREAM, day([1] * 48, quality="V"), event)
    assert statuses(good) == ["PARTIAL"] * 48
    assert rejected == [(4, 0, "unreadable_row")]


def test_times_are_standard_time_all_the_year(tmp_path):
    # The clocks of Sydney and Melbourne changed on 31 October 2004 and on 27 March 2005; the market's did not.
    dates = ["20041030", "20041031", "20041101", "20050326", "20050327", "20050328"]
    good, rejected = read(tmp_path, STREAM, *(day([1] * 48, date, end=",,20050401000000") for date in dates))
    assert rejected == []
    starts = [reading[2] for reading in good]
    assert starts == [at(date) + slot * 1_800_000_000 for date in dates for slot in range(48)]


@pytest.mark.parametrize(("zone", "pieces"), [("Australia/Brisbane", [288, 288]), ("Europe/Helsinki", [84, 288, 204])])
def test_five_minutes_fall_on_the_slots_of_local_days(tmp_path, zone, pieces):
    stream = STREAM.replace(",30,", ",5,")
    path = write(tmp_path, stream, day(range(288), "20240601"), day(range(288), "20240602"))
    (split,) = plan_file(str(path), ReadOptions())
    (delivery,) = read_split(split, ReadOptions())
    found = locate(delivery.series, local_calendar(zone))
    assert found.on_grid.all()
    assert sum(found.offset[1:] - found.offset[:-1]) == 576
    assert local_calendar(zone).slots_of(int(found.day[0]), 300) == 288
    lengths = {}
    for date, length in zip(found.day.tolist(), (found.offset[1:] - found.offset[:-1]).tolist(), strict=True):
        lengths[date] = lengths.get(date, 0) + length
    assert list(lengths.values()) == pieces


@pytest.mark.parametrize("date", ["20040201120000", "200402011200", "2004-02-01", "2004-02-01 12:00", "20040231", ""])
def test_a_day_is_a_date_and_nothing_else(tmp_path, date):
    good, rejected = read(tmp_path, STREAM, day([1] * 48, date), day([1] * 48, "20040202"))
    assert len(good) == 48
    assert rejected == [(3, slot, "unreadable_row") for slot in range(48)]


def test_registration(tmp_path):
    lines = [
        STREAM,
        day([1] * 48, "20040101", end=",,20040202120025,20040203000000"),
        day([1] * 48, "20040102", end=",,,20040203000000"),
        day([1] * 48, "20040103", end=",,200402021200,"),
        day([1] * 48, "20040104", end=",,soon,20040203000000"),
    ]
    good, rejected = read(tmp_path, *lines)
    assert [reading[4] for reading in good[::48]] == [
        at("2004-02-02T12:00:25"),
        at("2004-02-03T00:00"),
        at("2004-02-02T12:00"),
    ]
    assert set(rejected) == {(6, slot, "unreadable_row") for slot in range(48)}
    silent = [STREAM, day([1] * 48, end=",,,")]
    with pytest.raises(BadFileError, match="give --registered-at"):
        read(tmp_path, *silent)
    good, _ = read(tmp_path, *silent, options=ReadOptions(registered_at="2026-01-01T00:00:00Z"))
    assert {reading[4] for reading in good} == {1_767_225_600_000_000}


@pytest.mark.parametrize(
    ("value", "reason"), [("", "bad_energy"), ("x", "bad_energy"), ("NaN", "bad_energy"), ("1e99", "bad_energy")]
)
def test_one_bad_value_costs_that_value(tmp_path, value, reason):
    good, rejected = read(tmp_path, STREAM, day([1, 2, value, *[4] * 45]))
    assert len(good) == 47
    assert rejected == [(3, 2, reason)]


def test_values_are_exact(tmp_path):
    values = ["0.000001", "99999999.999999", "-0.5", ".04", "1.", "007", "0.0000005", "0.0000015", *["0"] * 40]
    good, rejected = read(tmp_path, STREAM, day(values))
    energy = [reading[5] for reading in good]
    assert energy[:8] == [1, 99_999_999_999_999, -500_000, 40_000, 1_000_000, 7_000_000, 0, 2]
    assert rejected == []


@pytest.mark.parametrize(
    "line",
    [
        day([1] * 47),
        day([1] * 49),
        day([1] * 96),
        "300",
        "300,20040201",
        "301,1",
        "250,VABC005890,11,1,11,11,METSER123,E,006342.8,20031005093055",
        "###;?",
        "400,1,2,A,,",
    ],
)
def test_a_line_that_is_no_record_here_is_set_aside_as_one(tmp_path, line):
    good, rejected = read(tmp_path, STREAM, line, day([1] * 48))
    assert (len(good), rejected) == (48, [(3, 0, "unreadable_row")])


@pytest.mark.parametrize("stream", ["200,A", STREAM.replace(",30,", ",7,"), STREAM.replace(",30,", ",,"), "500,O,S1,,"])
def test_days_without_a_stream_are_set_aside(tmp_path, stream):
    good, rejected = read(tmp_path, stream, day([1] * 48), day([1] * 48), STREAM, day([2] * 48))
    assert len(good) == 48
    assert rejected == [(3, 0, "unreadable_row"), (4, 0, "unreadable_row")]


@pytest.mark.parametrize(("nmi", "suffix"), [("", "E1"), ("6.4E+10", "E1"), ("6,4E+10".replace(",", "."), "")])
def test_an_id_that_is_lost_is_set_aside(tmp_path, nmi, suffix):
    stream = STREAM.replace("VABD000163", nmi).replace(",E1,N1", f",{suffix},N1")
    good, rejected = read(tmp_path, stream, day([1] * 48))
    assert (good, {reason for *_, reason in rejected}) == ([], {"mangled_identifier"})


def test_streams_of_an_odd_id_are_not_taken_for_one(tmp_path):
    streams = [STREAM.replace("VABD000163", "VABD+00163").replace(",E1,N1", f",{suffix},N1") for suffix in ("E1", "B1")]
    good, rejected = read(tmp_path, streams[0], day([1] * 48), streams[1], day([2] * 48))
    assert rejected == []
    assert {(reading[0], reading[5]) for reading in good} == {
        ("VABD+00163-E1", 1_000_000),
        ("VABD+00163-B1", 2_000_000),
    }


def test_a_stream_without_a_suffix_is_named_by_its_nmi(tmp_path):
    good, _ = read(tmp_path, STREAM.replace(",E1,N1", ",,N1"), day([1] * 48))
    assert {reading[0] for reading in good} == {"VABD000163"}


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff", "\n", "\r\n"])
def test_ways_to_write_a_file(tmp_path, newline, mark):
    plain = [STREAM, day([1] * 48), "500,O,S00010,20040304050505,00012345678", ",,,", day([2] * 48, "20040202")]
    expected = read(tmp_path, *plain)
    assert expected[1] == []
    padded = [*(f"{line},,," if line[0] == "2" else line for line in plain), '400,1,2,A,0,"a, b"', ""]
    assert read(tmp_path, *padded, header=mark + HEADER + ",,,", end="900,,,", newline=newline) == expected
    path = write(tmp_path, *plain)
    path.write_bytes(path.read_bytes().removesuffix(b"\n"))
    assert read_file(path)[0] == expected[0]


def test_bytes_of_no_encoding_cost_what_they_stand_in(tmp_path):
    path = write(tmp_path, STREAM, day([1] * 48), STREAM, day([2] * 48, "20040202"), day([3] * 48, "20040203"))
    content = path.read_bytes().replace(b"VABD", b"V\xe4BD", 1).replace(b",2,", b",\xff,", 1)
    path.write_bytes(content)
    good, rejected = read_file(path)
    assert len(good) == 95
    assert [row["reason"] for row in rejected] == ["mangled_identifier"] * 48 + ["bad_energy"]


def long_file(folder):
    lines = []
    for stream in range(4):
        lines.append(STREAM.replace("VABD000163", f"VABD00016{stream}"))
        for number in range(5):
            quality = "V" if number % 2 else "A"
            lines.append(day([stream + number] * 48, f"200401{number + 1:02}", quality=quality))
            lines += ["400,1,20,F14,76,", "400,21,48,A,,"] if number % 2 else []
        lines.append("junk" if stream == 2 else "500,O,S00010,20040304050505,00012345678")
    return write(folder, *lines)


@pytest.mark.parametrize("split_bytes", [1, 300, 1000, 2000])
def test_parts_give_the_same_as_the_whole(tmp_path, split_bytes):
    path = long_file(tmp_path)
    whole = read_file(path)
    assert (len(whole[0]), [row["row"] for row in whole[1]]) == (960, [34])
    assert read_in_parts(path, split_bytes=split_bytes) == whole


def test_a_file_that_is_cut_anywhere_is_refused(tmp_path):
    path = write(tmp_path, STREAM, day([900] * 48), "400,1,2,A,,", day([900] * 48, "20040202"))
    content = path.read_bytes()
    whole = read_file(path)
    for length in range(len(content)):
        path.write_bytes(content[:length])
        if length == len(content) - 1:  # the last line end
            assert read_file(path) == whole
        else:
            with pytest.raises(BadFileError):
                read_file(path, ReadOptions(format="nem12"))


def test_what_follows_the_end_must_be_another_file(tmp_path):
    path = write(tmp_path, STREAM, day([1] * 48))
    content = path.read_bytes()
    path.write_bytes(content + content.replace(b"20040201", b"20040202"))
    good, rejected = read_file(path)
    assert (len(good), rejected) == (96, [])
    assert len(read_in_parts(path, split_bytes=1)[0]) == 96
    for rest in (b"300,20040203", b"x"):
        path.write_bytes(content + rest)
        with pytest.raises(BadFileError, match="after its end record"):
            read_file(path)
    path.write_bytes(content + content.removesuffix(b"900\n"))
    with pytest.raises(BadFileError, match="cut short"):
        read_file(path)
    path.write_bytes(content + b"100,NEM12,200405011135\n" + day([1] * 48).encode() + b"\n900\n")
    assert [row["row"] for row in read_in_parts(path, split_bytes=1)[1]] == [6]  # its day is no day of the stream above


@given(
    st.lists(
        st.tuples(
            st.integers(0, 3),
            st.integers(0, 30),
            st.sampled_from([5, 15, 30]),
            st.integers(-(10**9), 10**14 - 1),
            st.sampled_from("AESFN"),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_whatever_is_written_is_read(tmp_path_factory, days):
    folder = tmp_path_factory.mktemp("nem12")
    lines, expected = [], []
    for stream, number, minutes, first, quality in days:
        count = 1440 // minutes
        energy = [max(first - slot, -(10**14) + 1) for slot in range(count)]
        lines.append(f"200,VABD00016{stream},,,B{stream},,,MWh,{minutes},")
        texts = [f"{'-' * (value < 0)}{abs(value) // 10**9}.{abs(value) % 10**9:09}" for value in energy]
        lines.append(day(texts, f"200401{number + 1:02}", quality))
        status = {"A": Status.OK, "N": Status.MISSING}.get(quality, Status.ESTIMATED)
        begin = at("2004-01-01T00:00") + (number * 24 * 3_600) * 1_000_000
        expected += [
            (
                f"VABD00016{stream}-B{stream}",
                ACTIVE,
                begin + slot * minutes * 60_000_000,
                minutes * 60,
                at("2004-02-02T12:00:25"),
                value * (quality != "N"),
                status,
            )
            for slot, value in enumerate(energy)
        ]
    assert read(folder, *lines) == (sorted(expected), [])


VALUES = ",".join(["1"] * 24)
PIECES = [
    "200,A,,,E1,,,kWh,60,",
    "200,B,,,E1,,,kWh,60,",
    " 200,C,,,E1,,,kWh,60,",
    '"200",D,,,E1,,,kWh,60,',
    "200 ,E,,,E1,,,kWh,60,",
    "200",
    f"300,20040201,{VALUES},A,,,{UPDATED}",
    f"300,20040202,{VALUES},V,,,{UPDATED}",
    f" 300,20040203,{VALUES},A,,,{UPDATED}",
    "400,1,24,S14,1,",
    "500,O,S1,,",
    "100,NEM12,200405011135",
    "900\n100,NEM12,200405011135",
    "9001",
    "900 ",
    "",
    '500,"a',
    "x",
]


@given(st.lists(st.sampled_from(PIECES), max_size=14), st.sampled_from(["\n", "\r\n"]))
def test_parts_of_any_lines_give_the_same_as_the_whole(tmp_path_factory, pieces, newline):
    path = write(tmp_path_factory.mktemp("parts"), *pieces, newline=newline)
    whole = read_file(path)
    splits = load_source("nem12").splits(str(path), "", ReadOptions(), split_bytes=1)
    assert read_file(path, ReadOptions(), splits) == whole
    assert not {"C-E1", "D-E1", "E-E1"} & {reading[0] for reading in whole[0]}
