import datetime as dt
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from source_cases import POINT, SHARED, read_file, read_in_parts

import schemas
from pipeline.errors import BadFileError, MeterveilError
from pipeline.sources.base import ReadOptions
from pipeline.sources.mapping import load_mapping
from pipeline.sources.registry import plan_file
from schemas.status import Status

OCTOPUS = str(Path(schemas.__file__).parent / "mappings" / "octopus_2017.yaml")
HELSINKI = ZoneInfo("Europe/Helsinki")
BASE = {
    "columns": {"metering_point_id": "id", "start": "time", "energy": "value"},
    "resolution": "PT15M",
    "unit": "kWh",
    "status": "OK",
    "time_zone": "Europe/Helsinki",
}


def write_mapping(folder, changes=None, columns=None):
    content = {**BASE, **(changes or {})}
    content = {key: value for key, value in content.items() if value is not None}
    content["columns"] = {k: v for k, v in {**content["columns"], **(columns or {})}.items() if v is not None}
    path = folder / "mapping.yaml"
    path.write_text(yaml.safe_dump(content), "utf-8")
    return str(path)


def read(folder, lines, mapping, name="f.csv", registered="2027-01-01T00:00:00Z"):
    path = folder / name
    path.write_text("\n".join(lines) + "\n", "utf-8")
    good, rejected = read_file(path, ReadOptions(registered_at=registered, mapping=mapping, format="mapped-csv"))
    return good, [(row["row"], row["reason"]) for row in rejected]


def starts(good):
    return [dt.datetime.fromtimestamp(reading[2] / 1e6, dt.UTC).strftime("%d %H:%M") for reading in good]


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared sample data is not here")
def test_the_real_half_hourly_feed():
    options = ReadOptions(registered_at="2017-12-01T00:00:00Z", mapping=OCTOPUS)
    count = total = 0
    for path in sorted((SHARED / "octopus_2017").glob("*.csv")):
        good, rejected = read_file(path, options)
        assert rejected == []
        assert all(reading[0].isupper() and reading[3] == 1800 for reading in good)
        count, total = count + len(good), total + sum(reading[5] for reading in good)
    assert (count, total) == (62_818, 17_544_998_000)
    path = SHARED / "octopus_2017" / "2017-11-06 229 Customers.csv"
    assert read_in_parts(path, options, split_bytes=50_000) == read_file(path, options)


def local_quarters(first, count):
    """Local clock readings of consecutive quarter-hours from a UTC time."""
    return [
        (first + dt.timedelta(minutes=15 * n)).astimezone(HELSINKI).strftime("%Y-%m-%d %H:%M") for n in range(count)
    ]


@pytest.mark.parametrize(
    "first", [dt.datetime(2026, 10, 24, 22, tzinfo=dt.UTC), dt.datetime(2026, 3, 28, 22, tzinfo=dt.UTC)]
)
@pytest.mark.parametrize("column", ["start", "end"])
def test_whole_days_of_local_time_come_back_as_they_were(tmp_path, first, column):
    columns = {"start": None, "end": "time"} if column == "end" else None
    lines = ["id,time,value", *(f"{point},{time},1" for point in "AB" for time in local_quarters(first, 100))]
    good, rejected = read(tmp_path, lines, write_mapping(tmp_path, columns=columns))
    assert rejected == []
    begin = int(first.timestamp()) - 900 * (column == "end")
    assert sorted({reading[2] for reading in good}) == [(begin + 900 * n) * 1_000_000 for n in range(100)]
    assert len(good) == 200


def test_an_hour_shown_once_is_ambiguous(tmp_path):
    times = ["02:45", "03:00", "03:15", "03:30", "03:45", "04:00"]
    lines = ["id,time,value", *(f"A,2026-10-25 {time},1" for time in times)]
    good, rejected = read(tmp_path, lines, write_mapping(tmp_path))
    assert starts(good) == ["24 23:45", "25 02:00"]
    assert rejected == [(row, "ambiguous_local_time") for row in (3, 4, 5, 6)]


@pytest.mark.parametrize(
    "times", [["03:00", "03:00", "03:15", "03:15"], ["03:15", "03:00", "03:15", "03:00"], ["03:00", "03:15", "03:00"]]
)
def test_an_hour_shown_twice_out_of_order_is_ambiguous(tmp_path, times):
    lines = ["id,time,value", *(f"A,2026-10-25 {time},1" for time in times)]
    good, rejected = read(tmp_path, lines, write_mapping(tmp_path))
    assert (good, {reason for _, reason in rejected}) == ([], {"ambiguous_local_time"})


@given(st.permutations(range(4)))
def test_points_in_turn_do_not_disturb_each_other(tmp_path_factory, order):
    folder = tmp_path_factory.mktemp("turns")
    times = ["03:00", "03:30", "03:00", "03:30"]
    lines = ["id,time,value", *(f"P{point},2026-10-25 {time},1" for time in times for point in order)]
    good, rejected = read(folder, lines, write_mapping(folder))
    assert rejected == []
    assert starts(good) == ["25 00:00", "25 00:30", "25 01:00", "25 01:30"] * 4


def test_a_time_that_the_clock_skips_is_off_the_grid(tmp_path):
    lines = ["id,time,value", "A,2026-03-29 02:45,1", "A,2026-03-29 03:15,1", "A,2026-03-29 04:00,1"]
    good, rejected = read(tmp_path, lines, write_mapping(tmp_path))
    assert (starts(good), rejected) == (["29 00:45", "29 01:00"], [(3, "off_grid")])


def test_an_offset_in_the_time_settles_it(tmp_path):
    lines = ["id,time,value", "A,2026-10-25 03:15+03:00,1", "A,2026-10-25T03:15:00+02:00,2"]
    good, rejected = read(tmp_path, lines, write_mapping(tmp_path))
    assert (starts(good), rejected) == (["25 00:15", "25 01:15"], [])


def test_a_daily_value_begins_at_local_midnight(tmp_path):
    ends = ["2026-03-29", "2026-03-30", "2026-10-26"]
    lines = ["id,time,value", *(f"A,{day} 00:00,1" for day in ends)]
    mapping = write_mapping(tmp_path, {"resolution": "P1D"}, {"start": None, "end": "time"})
    assert starts(read(tmp_path, lines, mapping)[0]) == ["27 22:00", "28 22:00", "24 21:00"]
    mapping = write_mapping(tmp_path, {"resolution": None}, {"start": "from", "end": "to"})
    lines = ["id,from,to,value", "A,2026-03-29 00:00,2026-03-30 00:00,1", "A,2026-03-29 00:00,2026-03-29 00:00,1"]
    good, rejected = read(tmp_path, lines, mapping)
    assert ([reading[3] for reading in good], rejected) == ([86_400], [(3, "unreadable_row")])


def test_all_columns_and_words(tmp_path):
    changes = {
        "resolution": None,
        "unit": None,
        "status": None,
        "time_zone": None,
        "delimiter": "|",
        "decimal_sign": ",",
    }
    changes["status_words"] = {"A": "OK", "N": "MISSING", "E": "ESTIMATED"}
    columns = {name: name for name in ("resolution", "unit", "status", "product", "registered_at")}
    lines = [
        "id|time|value|resolution|unit|status|product|registered_at",
        "a|2026-01-01T00:00:00Z|1,5|PT1H|kWh|A||2026-01-02T00:00:00Z",
        "a|2026-01-01T01:00:00Z||PT1H|kWh|N|district_heat|2026-01-02T00:00:00Z",
        "a|2026-01-01T02:00:00Z|2|PT1H|Wh|E|0|2026-01-02T00:00:00+02:00",
        "a|2026-01-01T02:00:00Z|2|PT1H|Wh|OK|0|2026-01-02T00:00:00Z",
        "a|2026-01-01T02:00:00Z|2|PT1H|Wh|A|0|",
        "a|2026-01-01 02:00|2|PT1H|Wh|A|0|2026-01-02T00:00:00Z",
    ]
    good, rejected = read(tmp_path, lines, write_mapping(tmp_path, changes, columns))
    assert sorted(reading[5:] for reading in good) == [(0, 0), (2_000, 3), (1_500_000, 5)]
    assert {reading[1] for reading in good} == {"8716867000030", "district_heat"}
    assert rejected == [(5, "unknown_status"), (6, "unreadable_row"), (7, "unreadable_row")]


@pytest.mark.parametrize("lines", [['A;"x'], ['"A"x,2026-01-01 00:00,1'], ["", 'A,"']])
def test_a_file_of_nothing_but_broken_quotes_is_set_aside(tmp_path, lines):
    path = tmp_path / "f.csv"
    path.write_text("\n".join(["id,time,value", *lines]), "utf-8")  # no line end after the last
    options = ReadOptions(registered_at="2027-01-01T00:00:00Z", mapping=write_mapping(tmp_path))
    good, rejected = read_file(path, options)
    assert (good, [(row["row"], row["reason"]) for row in rejected]) == ([], [(1 + len(lines), "unreadable_row")])


def test_registration_from_the_name(tmp_path):
    mapping = write_mapping(tmp_path, {"registered_at": {"file_name": r"_(\w+)\.csv$"}})
    lines = ["id,time,value", f"{POINT},2026-01-01 00:00,1"]
    good, _ = read(tmp_path, lines, mapping, name="x_20260330T040000Z.csv", registered=None)
    assert good[0][4] == 1_774_843_200_000_000
    with pytest.raises(BadFileError, match="no time stamp"):
        read(tmp_path, lines, mapping, name="x_march.csv")


@pytest.mark.parametrize(
    ("changes", "columns", "problem"),
    [
        ({}, {"start": None}, "neither start nor end"),
        ({}, {"end": "until"}, "leave out resolution"),
        ({"resolution": None}, {}, "name the resolution once"),
        ({}, {"resolution": "length"}, "name the resolution once"),
        ({"resolution": "PT15"}, {}, "no ISO 8601 duration"),
        ({"unit": None}, {}, "name the unit once"),
        ({"unit": "J"}, {}, "unit: there is no 'J' here"),
        ({"status": None}, {"status": "quality"}, "belong together"),
        ({"status": None}, {}, "name the status once"),
        ({"colour": "red"}, {}, "there is no 'colour' here"),
        ({}, {"begin": "time"}, "there is no 'begin' here"),
        ({"time_zone": "Helsinki"}, {}, "time_zone is no zone"),
        ({"decimal_sign": ","}, {}, "are the same"),
        ({"registered_at": {"file_name": "x"}}, {}, "one group"),
        ({"registered_at": {"file_name": "("}}, {}, "no regular expression"),
        ({}, {"start": "from\nto"}, "columns/start: expected the name of a column"),
        ({}, {"start": ""}, "columns/start: expected the name of a column"),
        ({"delimiter": "§"}, {}, "expected one ASCII character"),
        ({"delimiter": '"'}, {}, "expected one ASCII character"),
        ({"status": None, "status_words": {"A": "okay"}}, {"status": "quality"}, "there is no 'okay' here"),
    ],
)
def test_a_faulty_mapping_is_refused_with_the_reason(tmp_path, changes, columns, problem):
    with pytest.raises(MeterveilError, match=problem):
        load_mapping(write_mapping(tmp_path, changes, columns))


def test_a_mapping_that_is_none_is_refused(tmp_path):
    with pytest.raises(MeterveilError, match="No such file"):
        load_mapping(str(tmp_path / "none.yaml"))
    (tmp_path / "bad.yaml").write_text("a: [", "utf-8")
    with pytest.raises(MeterveilError, match=r"bad.yaml:2: did not find expected node"):
        load_mapping(str(tmp_path / "bad.yaml"))
    # A feed that is given by mistake, none of whose values is told.
    (tmp_path / "feed.csv").write_text(f"id,time,value\n{POINT},2026-01-01 00:00,1\n", "utf-8")
    with pytest.raises(MeterveilError, match=r"feed.csv:1: expected a mapping") as told:
        load_mapping(str(tmp_path / "feed.csv"))
    assert POINT not in str(told.value)
    for tag in ("!!int ''", "!!float ''", "!!bool x", "!!timestamp x", "2026-99-99"):
        (tmp_path / "tag.yaml").write_text(f"product: {tag}", "utf-8")
        with pytest.raises(MeterveilError, match="no YAML"):
            load_mapping(str(tmp_path / "tag.yaml"))


def test_words_of_the_status_are_taken_as_they_stand(tmp_path):
    mapping = load_mapping(write_mapping(tmp_path, {"status": None, "status_words": {1: "OK"}}, {"status": "q"}))
    assert mapping.status_words == {"1": Status.OK}


def test_columns_that_are_not_there_are_named(tmp_path):
    with pytest.raises(BadFileError, match="columns time, value"):
        read(tmp_path, ["id,a,b"], write_mapping(tmp_path))


def test_formats_are_found_from_content_and_named_when_none_fits(tmp_path):
    (tmp_path / "f.bin").write_bytes(bytes(range(256)) * 10)
    with pytest.raises(BadFileError, match=r"avro, parquet, .*datahub-csv, mapped-csv"):
        plan_file(str(tmp_path / "f.bin"), ReadOptions())
    with pytest.raises(MeterveilError, match="name one of avro"):
        plan_file(str(tmp_path / "f.bin"), ReadOptions(format="xml"))
    for name in ("avro", "parquet", "datahub-csv", "nem12", "nem13"):
        with pytest.raises(BadFileError):
            plan_file(str(tmp_path / "f.bin"), ReadOptions(format=name, registered_at="2026-01-01T00:00:00Z"))
    with pytest.raises(BadFileError, match="can't be opened"):
        plan_file(str(tmp_path / "none"), ReadOptions())
    with pytest.raises(MeterveilError, match="--mapping"):
        plan_file(str(tmp_path / "f.bin"), ReadOptions(format="mapped-csv"))
