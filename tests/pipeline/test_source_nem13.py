import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st
from source_cases import read_file, read_in_parts

from pipeline.errors import BadFileError, MeterveilError
from pipeline.inspection import inspect_file
from pipeline.sources.base import ReadOptions
from schemas.status import Status
from transforms.calendar import local_calendar

ACTIVE, REACTIVE = "8716867000030", "8716867000047"
STANDARD = dt.timezone(dt.timedelta(hours=10))
HEADER, NOTE, END = "100,NEM13,200401101030,MDA1,Ret1", "550,N,,A,", "900"
SHOWN = ("metering_point_id", "product", "start", "resolution", "registered_at", "energy", "status")


def line(
    before="20040101000000",
    after="20040102000000",
    quantity="12.5",
    qualities=("A", "A"),
    unit="kWh",
    nmi="VABC005890",
    suffix="11",
    stamps=("20040103120000", "20040104120000"),
):
    first, last = qualities
    reads = f"006342.8,{before},{first},,,007654.9,{after},{last},,"
    return f"250,{nmi},11,1,{suffix},11,METSER123,E,{reads},{quantity},{unit},20040407,{','.join(stamps)}"


def write(folder, *lines, header=HEADER, end=END, newline="\n"):
    path = folder / "f.csv"
    path.write_bytes((newline.join([header, *lines, end]) + newline).encode())
    return path


def read(folder, *lines, options=None, **more):
    return read_file(write(folder, *lines, **more), options)


def at(text):
    return int(dt.datetime.fromisoformat(text).replace(tzinfo=STANDARD).timestamp()) * 1_000_000


def test_what_was_counted_over_months_is_set_aside_with_all_that_is_said(tmp_path):
    """The values of the market operator's example and of a reader's: actual, and a forward estimate of two registers."""
    good, rejected = read(
        tmp_path,
        line(
            "20031001103230", "20040201100030", "343.5", ("A", "E64"), nmi="1234567890", stamps=("20040202125010", "")
        ),
        NOTE,
        line("20040108103055", "20040408000000", "111", ("A", "E64"), nmi="VDEF005890"),
        NOTE,
        line("20040108103055", "20040408000000", "65", ("A", "E64"), nmi="VDEF005890", suffix="41"),
        NOTE,
    )
    assert good == []
    assert {row["reason"] for row in rejected} == {"register_break"}
    assert [tuple(row[name] for name in ("row", *SHOWN)) for row in rejected] == [
        (2, "1234567890-11", ACTIVE, "2003-10-01T00:32:30Z", "PT177088M", "2004-02-02T02:50:10Z", "343.500000", "ESTIMATED"),
        (4, "VDEF005890-11", ACTIVE, "2004-01-08T00:30:55Z", "PT7824545S", "2004-01-03T02:00:00Z", "111.000000", "ESTIMATED"),
        (6, "VDEF005890-41", ACTIVE, "2004-01-08T00:30:55Z", "PT7824545S", "2004-01-03T02:00:00Z", "65.000000", "ESTIMATED"),
    ]  # fmt: skip
    assert [row["decoded_energy"] for row in rejected] == [343_500_000, 111_000_000, 65_000_000]


@pytest.mark.parametrize(
    ("after", "seconds"), [("20040102000000", 86_400), ("20040101010000", 3_600), ("20040101003000", 1_800)]
)
def test_reads_an_interval_apart_are_a_reading(tmp_path, after, seconds):
    good, rejected = read(tmp_path, line(after=after), line(after=after, suffix="41", unit="MVArh"))
    assert rejected == []
    start, registered = at("2004-01-01T00:00"), at("2004-01-03T12:00")
    assert good == [
        ("VABC005890-11", ACTIVE, start, seconds, registered, 12_500_000, Status.OK),
        ("VABC005890-41", REACTIVE, start, seconds, registered, 12_500_000_000, Status.OK),
    ]


@pytest.mark.parametrize(
    "after", ["20040103000000", "20040101000030", "20040101000000", "20031231000000", "20040101070000"]
)
def test_reads_any_other_time_apart_are_none(tmp_path, after):
    good, rejected = read(tmp_path, line(after=after))
    assert (good, [row["reason"] for row in rejected]) == ([], ["register_break"])


@pytest.mark.parametrize(
    ("qualities", "expected"),
    [
        (("A", "A"), "OK"), (("A", "E64"), "ESTIMATED"), (("S14", "A"), "ESTIMATED"), (("f14", "a"), "ESTIMATED"),
        (("N", "A"), "MISSING"), (("A", "N"), "MISSING"), (("", "A"), None), (("A", "V"), None), (("A", "E641"), None),
    ],
)  # fmt: skip
def test_what_was_counted_is_as_good_as_the_weaker_read(tmp_path, qualities, expected):
    good, rejected = read(tmp_path, line(qualities=qualities))
    assert [Status(reading[6]).name for reading in good] == ([expected] if expected else [])
    assert [row["reason"] for row in rejected] == ([] if expected else ["unknown_status"])
    if not expected:
        assert rejected[0]["status"] == next(word for word in qualities if word != "A")


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (line(before="20040101", after="20040102"), "unreadable_row"),  # at some hour of those days
        (line(before="20040101"), "unreadable_row"),
        (line(before="200401010000", after="200401020000"), None),
        (line(before="2004010100000"), "unreadable_row"),
        (line(after=""), "unreadable_row"),
        (line(stamps=("yesterday", "")), "unreadable_row"),
        (line(nmi=""), "mangled_identifier"),
        (line(nmi="4.1E+9", after="20040301000000"), "mangled_identifier"),
        (line(quantity="12,5"), "unreadable_row"),  # one field more
        (line(quantity="1.2.5"), "bad_energy"),
        (line(quantity=""), "bad_energy"),
        (line(unit="kW"), "bad_energy"),
        (line(unit="kW", qualities=("N", "N")), "bad_energy"),
        (line(unit="pf", after="20040301000000"), "bad_energy"),
        ("250,VABC005890,11,1", "unreadable_row"),
        (line() + ",", None),
        (line() + ",,", "unreadable_row"),
        ("251,VABC005890", "unreadable_row"),
        ("300,20040101,1,2", "unreadable_row"),
        (line().rpartition(",")[0], None),  # what follows the unit may be left out
        ('550,N,,"A, B",', None),
    ],
)  # fmt: skip
def test_every_fault_ends_in_quarantine_with_its_line(tmp_path, fault, reason):
    other = line(suffix="41")
    good, rejected = read(tmp_path, other, fault, other.replace("12.5", "13"))
    assert [(row["row"], row["reason"]) for row in rejected] == ([(3, reason)] if reason else [])
    assert len(good) == 3 - bool(reason) - fault.startswith("550")


@pytest.mark.parametrize(
    ("times", "start", "resolution"),
    [
        (("20040101000000", "soon"), "2003-12-31T14:00:00Z", "soon"),
        (("once", "20040102000000"), "once", "20040102000000"),
    ],
)
def test_a_time_that_can_t_be_read_is_shown_as_delivered_beside_the_other(tmp_path, times, start, resolution):
    _, (row,) = read(tmp_path, line(*times))
    assert (row["reason"], row["start"], row["resolution"]) == ("unreadable_row", start, resolution)


@pytest.mark.parametrize(("before", "after"), [("20041031", "20041101"), ("20050327", "20050328")])
def test_a_day_on_which_the_clocks_changed_is_a_day(tmp_path, before, after):
    # Sydney and Melbourne had 23 hours on 31 October 2004, and 25 on 27 March 2005; the market had 24.
    lines = [line(f"{before}000000", f"{after}{hour:02}0000", stamps=("20050401000000", "")) for hour in (0, 1)]
    good, rejected = read(tmp_path, *lines)
    assert [(reading[2], reading[3]) for reading in good] == [(at(before), 86_400)]
    assert [(row["row"], row["reason"], row["resolution"]) for row in rejected] == [(3, "register_break", "PT25H")]


def test_a_record_without_a_time_of_its_own_is_registered_as_the_options_say(tmp_path):
    lines = (
        line(stamps=("", "20040104120000")),
        line(suffix="41", stamps=("", "")),
        line(suffix="B1").rpartition(",2004040")[0],
    )
    options = ReadOptions(registered_at="2004-02-01T00:00:00Z")
    good, _ = read(tmp_path, *lines, options=options)
    told = int(dt.datetime(2004, 2, 1, tzinfo=dt.UTC).timestamp()) * 1_000_000
    assert [reading[4] for reading in good] == [at("2004-01-04T12:00"), told, told]
    with pytest.raises(MeterveilError, match="--registered-at"):
        read(tmp_path, *lines)


def test_a_file_that_is_cut_short_or_another_is_refused(tmp_path):
    path = write(tmp_path, line(), NOTE)
    content = path.read_bytes()
    for size in range(len(content)):
        path.write_bytes(content[:size])
        if content[size:].strip():
            with pytest.raises(BadFileError):
                read_file(path, ReadOptions(format="nem13"))
        else:
            assert len(read_file(path)[0]) == 1
    for header, said in (("nem12", "header of NEM12"), ("nem13", "header of NEM13")):
        other = {"nem12": "NEM13", "nem13": "NEM12"}[header]
        path.write_bytes(content.replace(b"NEM13", other.encode()))
        with pytest.raises(BadFileError, match=said):
            read_file(path, ReadOptions(format=header))
    path.write_bytes(content + content.replace(b"NEM13", b"NEM12"))
    with pytest.raises(BadFileError, match="after its end record"):
        read_file(path)


def test_inspecting_tells_what_would_be_set_aside(tmp_path):
    path = write(tmp_path, line(), line(after="20040401000000", suffix="41"), NOTE)
    told = inspect_file(str(path), ReadOptions(), local_calendar("Australia/Brisbane"), identifiers=False)
    assert told["format"] == "nem13"
    assert told["readings"]["quarantined"] == {"register_break": 1}


@given(
    st.lists(
        st.tuples(
            st.integers(0, 3), st.integers(0, 10**8), st.sampled_from([900, 1_800, 3_600, 86_400, 5, 7_200, 86_401, 10**7]),
            st.integers(-(10**13), 10**13), st.sampled_from("AESF"),
        ),
        min_size=4,
        max_size=30,
    )
)  # fmt: skip
def test_whatever_is_written_is_read_or_set_aside(tmp_path_factory, reads):
    epoch = dt.datetime(2004, 1, 1, tzinfo=STANDARD)
    lines, expected, aside = [], [], []
    for number, (stream, offset, span, energy, quality) in enumerate(reads):
        begin = epoch + dt.timedelta(seconds=offset)
        stamps = [f"{moment:%Y%m%d%H%M%S}" for moment in (begin, begin + dt.timedelta(seconds=span))]
        text = f"{'-' * (energy < 0)}{abs(energy) // 10**6}.{abs(energy) % 10**6:06}"
        lines.append(line(*stamps, text, ("A", quality), suffix=f"B{stream}"))
        start = int(begin.timestamp()) * 1_000_000
        status = Status.OK if quality == "A" else Status.ESTIMATED
        if span in (900, 1_800, 3_600, 86_400):
            expected.append((f"VABC005890-B{stream}", ACTIVE, start, span, at("2004-01-03T12:00"), energy, status))
        else:
            aside.append((number + 2, energy))
    path = write(tmp_path_factory.mktemp("nem13"), *lines, newline="\r\n")
    for good, rejected in (read_file(path), read_in_parts(path, split_bytes=300)):
        assert sorted(good) == sorted(expected)
        assert sorted((row["row"], row["decoded_energy"]) for row in rejected) == aside
