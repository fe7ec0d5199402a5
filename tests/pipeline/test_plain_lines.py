"""Plain lines: whatever a file holds, it is read as if each line were parsed."""

import datetime as dt
from zoneinfo import ZoneInfo

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from source_cases import SHARED

from pipeline.errors import BadFileError
from pipeline.sources import delimited_lines
from pipeline.sources.base import ReadOptions
from pipeline.sources.delimited import Header
from pipeline.sources.delimited_lines import make_form
from pipeline.sources.plain_lines import Form, find_plain
from pipeline.sources.registry import find_source

HELSINKI = ZoneInfo("Europe/Helsinki")
PORTAL = "MeteringPointGSRN;Product Type;Resolution;Unit Type;Reading Type;Start Time;Quantity;Quality"
#: What each mapping has in its lines, with the fields of ``reading`` in braces.
FORMS = {
    "portal": (None, PORTAL, "{point};8716867000030;PT15M;kWh;BN01;{utc}Z;{comma};{word}"),
    "start and end": (
        {
            "columns": {"metering_point_id": "id", "start": "from", "end": "to", "energy": "kwh"},
            "unit": "kWh",
            "status": "OK",
        },
        "id,from,to,kwh",
        "{point},{utc}+00:00,{end}+00:00,{value}",
    ),
    "local": (
        {
            "columns": {
                "metering_point_id": "id",
                "start": "time",
                "energy": "value",
                "unit": "unit",
                "status": "quality",
            },
            "resolution": "PT15M",
            "status_words": {"OK": "OK", "MISSING": "MISSING", "ESTIMATED": "ESTIMATED"},
            "time_zone": "Europe/Helsinki",
            "delimiter": "\t",
            "encoding": "windows-1252",
        },
        "value\tquality\tid\tunit\ttime",
        "{value}\t{word}\t{point}\tMWh\t{local}",
    ),
    "ends of local days": (
        {
            "columns": {"metering_point_id": "id", "end": "time", "energy": "value", "registered_at": "registered"},
            "resolution": "P1D",
            "unit": "Wh",
            "status": "OK",
            "time_zone": "Europe/Helsinki",
        },
        "time,id,registered,value",
        "{local},{point},{local},{value}",
    ),
    "registers": (
        {
            "columns": {"metering_point_id": "id", "read_at": "time", "register": "mwh", "meter": "meter"},
            "resolution": "PT1H",
            "unit": "MWh",
            "status": "OK",
            "time_zone": "Europe/Helsinki",
            "delimiter": ";",
            "decimal_sign": ",",
            "register": {"digits": 3, "most": 200},
        },
        "id;time;mwh;meter",
        "{point};{local};{comma};7",
    ),
}
VALUES = st.one_of(
    st.decimals(0, 30, places=3).map(str),
    st.decimals(0, 999, places=6).map(str),
    st.integers(0, 99).map(str),
    st.floats(0.0001, 90).map(str),
    st.sampled_from(
        [
            "0",
            "00",
            "1.",
            ".5",
            "-1.5",
            "+1",
            "1e3",
            "1.5.5",
            "12345678",
            "99999999.9999995",
            "100000000",
            "123456789012345678",
            "0.1234567890123456789012",
            "0.0000005",
            "0.0000015",
            "1.0000005",
            "999999999999999999",
            "null",
            "x",
            "1x5",
        ]
    ),
    st.just(""),
)
WORDS = st.sampled_from(["OK", "OK", "OK", "OK", "ESTIMATED", "MISSING", "FINE", ""])
POINTS = st.sampled_from(["643006966022791278", "643006966022791278", "643003825107340356", "A", "ä", "6,4E+17", ""])
#: The quarter-hours around both changes of the clock, and around midnight.
BEGINS = st.sampled_from(["2026-10-24T23:00Z", "2026-03-29T00:00Z", "2026-01-01T21:30Z"]).map(dt.datetime.fromisoformat)
#: Lines that follow each other: of which point, from when, how many quarter-hours apart, value and word of each.
RUNS = st.tuples(
    POINTS, BEGINS, st.sampled_from([1, 4, 4, 0, 96]), st.lists(st.tuples(VALUES, WORDS), min_size=1, max_size=12)
)
BYTES = st.sampled_from(
    [bytes([byte]) for byte in b';,\t"\r\n 0157:-.TZ+x\x00\xff\xe4'] + [b"", b"\xef\xbb\xbf", b'""']
)
CHANGES = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 2), BYTES), max_size=4)


def write_lines(form, runs):
    mapping, header, line = FORMS[form]
    lines = []
    for point, begin, step, readings in runs:
        for place, (value, word) in enumerate(readings):
            start = begin + dt.timedelta(minutes=15 * place * step)
            lines.append(
                line.format(
                    point=point,
                    utc=f"{start:%Y-%m-%dT%H:%M:%S}",
                    end=f"{start + dt.timedelta(minutes=15):%Y-%m-%dT%H:%M:%S}",
                    local=f"{start.astimezone(HELSINKI):%Y-%m-%d %H:%M}",
                    value=value,
                    comma=value.replace(".", ","),
                    word=word,
                )
            )
    return "\n".join([header, *lines, ""]).encode("windows-1252" if mapping and "encoding" in mapping else "utf-8")


def change(content, changes):
    """Put bytes in the place of others, somewhere behind the header."""
    begin = content.index(b"\n") + 1
    for where, length, put in changes:
        place = begin + int(where * (len(content) - begin))
        content = content[:place] + put + content[place + length :]
    return content


def read(folder, form, content):
    """Read a file to the batches that it is delivered in, or the message with which it is refused."""
    mapping, _, _ = FORMS[form]
    path = folder / "f.csv"
    path.write_bytes(content)
    options = ReadOptions(registered_at="2027-01-01T00:00:00Z", format="datahub-csv", metering_point="P")
    if mapping:
        (folder / "mapping.yaml").write_text(yaml.safe_dump(mapping))
        options = ReadOptions(options.registered_at, None, str(folder / "mapping.yaml"), "mapped-csv")
    source = find_source(str(path), options)
    try:
        splits = source.splits(str(path), "", options)
        deliveries = [delivery for split in splits for delivery in source.read(split, options)]
    except BadFileError as error:
        return str(error)
    for delivery in deliveries:
        delivery.series.validate(full=True)
        delivery.rejected.validate(full=True)
    return [(delivery.series, delivery.rejected) for delivery in deliveries]


def assert_same_both_ways(folder, form, content):
    with pytest.MonkeyPatch.context() as patch:
        fast = read(folder, form, content)
        patch.setattr(delimited_lines, "find_plain", lambda *_: None)
        assert read(folder, form, content) == fast


@given(
    st.sampled_from(sorted(FORMS)),
    st.lists(RUNS, min_size=1, max_size=6),
    CHANGES,
    st.sampled_from([1 << 20, 150, 700]),
    st.sampled_from([1 << 14, 5, 16]),
    st.sampled_from(["\n", "\n", "\r\n"]),
)
def test_lines_are_read_as_if_each_were_parsed(tmp_path_factory, form, runs, changes, part, block, end):
    content = change(write_lines(form, runs).replace(b"\n", end.encode()), changes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delimited_lines, "PART_BYTES", part)
        patch.setattr("pipeline.sources.plain_lines._BLOCK", block)
        assert_same_both_ways(tmp_path_factory.mktemp("f"), form, content)


def find(content, form):
    stops = np.flatnonzero(np.frombuffer(content, np.uint8) == ord("\n"))
    return find_plain(content, np.concatenate(([0], stops[:-1] + 1)), stops, form)


@pytest.mark.parametrize("form", sorted(FORMS.keys() - {"ends of local days"}))
def test_of_a_plain_run_one_line_is_parsed(tmp_path, monkeypatch, form):
    """Whatever the length of its values."""
    values = [("0.007", "OK"), ("12.5", "OK"), ("3", "OK"), ("0.14300000000000002", "OK")] * 3
    points = [f"64300696602279{number:04d}" for number in range(150)]
    runs = [(point, dt.datetime(2026, 1, 1, 9, tzinfo=dt.UTC), 4, values) for point in points]
    parsed = []
    parse = delimited_lines.parse_fields
    monkeypatch.setattr(
        delimited_lines, "parse_fields", lambda text, header: parsed.append(text.count(b"\n")) or parse(text, header)
    )
    read(tmp_path, form, write_lines(form, runs))
    # At the very beginning and end, there are not enough bytes around a line.
    assert len(points) <= parsed[0] <= len(points) + 3


def test_the_line_that_tells_is_the_first_with_the_same_bytes():
    lines = [
        b"a first line, so that there is something before",
        b"A;2026-01-01T00:00Z;1,5;OK",
        b"A;2026-01-01T00:15Z;11,25;OK",
        b"A;2026-01-01T00:30Z;2;EST",
        b"A;2026-01-01T00:45Z;;OK",
        b"A;2026-01-01T01:00Z;3,5;OK",
        b"A;2026-01-01T01:15Z;4,5;EST",
        b"A;2026-01-01T24:00Z;4,5;OK",
        b"A;2026-01-02T00:00Z;4,5;OK",
        b"B;2026-01-02T00:15Z;4,5;OK",
        b'B;2026-01-02T00:15Z;4,5;"OK"',
        b"B;2026-01-02T00:15Z;4,5;;OK",
        b"B;2026-01-02T00:15Z;4,5;OK",
        b"B;2026-01-02T00:15Z;4,5;OK",
    ]
    plain = find(b"\n".join(lines) + b"\n", Form(b";", 4, (1,), 2, b","))
    assert plain.teller.tolist() == [0, 1, 1, 3, 4, 1, 3, 7, 8, 9, 10, 11, 9, 9]
    assert plain.minutes[0, plain.found].tolist() == [0, 15, 30, 60, 75, 0, 15, 15, 15]
    assert plain.digits[plain.found].tolist() == [15, 1125, 2, 35, 45, 45, 45, 45, 45]
    assert plain.decimals[plain.found].tolist() == [1, 2, 0, 1, 1, 1, 1, 1, 1]


@pytest.mark.parametrize(
    "lines",
    [
        [b"2026-01-01T00:15Z;A;5;EST", b"2026-01-01T00:30Z;A;42;OK", b"2026-01-01T00:45Z;A;6;EST"],
        [b"2026-01-01T00:15Z;AA;5;OK", b"2026-01-01T00:30Z;A;42;OK", b"2026-01-01T00:45Z;AA;6;OK"],
    ],
)
def test_a_line_of_another_layout_interrupts_nothing(lines):
    """Though digits stand where the number would end, or begin."""
    plain = find(b"\n".join([b"another line to begin with", *lines, b""]), Form(b";", 4, (0,), 2, b","))
    assert plain.teller.tolist() == [0, 1, 2, 1]


@pytest.mark.parametrize(
    ("delimiter", "number", "others"), [("5", 2, [0]), (";", 1, [0]), (";", 2, [0, 2]), (";", 2, [0, 1])]
)
def test_what_changes_is_nothing_else_too(delimiter, number, others):
    header = Header(("id", "time", "kwh"), 12, delimiter, "utf-8")
    assert make_form(header, times=[1], number=number, others=others, decimal_sign=".") is None
    header = Header(header.names, 12, ";", "utf-8")
    assert make_form(header, times=[1, 1], number=2, others=[0], decimal_sign=".") == Form(b";", 3, (1,), 2, b".")


@pytest.mark.parametrize(
    "columns",
    [
        {"metering_point_id": "value", "start": "time", "energy": "value"},
        {"metering_point_id": "time", "start": "time", "energy": "value"},
        {"metering_point_id": "id", "start": "time", "energy": "value", "registered_at": "time"},
    ],
)
def test_one_column_may_be_two_fields(tmp_path, monkeypatch, columns):
    monkeypatch.setitem(
        FORMS,
        "doubled",
        ({"columns": columns, "resolution": "PT1H", "unit": "kWh", "status": "OK"}, "id,time,value", ""),
    )
    lines = "".join(f"643006966022791278,2026-01-01T{hour:02d}:00:00Z,{hour}.5\n" for hour in range(24))
    assert_same_both_ways(tmp_path, "doubled", f"id,time,value\n{lines}".encode())


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared sample data is not here")
def test_real_files_are_read_as_if_each_line_were_parsed(tmp_path):
    for path in sorted((SHARED / "datahub_csv").glob("*.csv")):
        assert_same_both_ways(tmp_path, "portal", path.read_bytes())
