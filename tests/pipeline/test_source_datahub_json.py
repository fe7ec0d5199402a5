import copy
import datetime as dt
import json
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from source_cases import POINT, SHARED, read_file

from pipeline.errors import BadFileError
from pipeline.sources import datahub_answers
from pipeline.sources.base import ReadOptions
from pipeline.sources.registry import find_source
from schemas.status import Status

ACTIVE, REACTIVE = "8716867000030", "8716867000139"
CREATED = "2026-03-30T04:00:00.000+0000"
HOUR = 3_600_000_000


def at(text):
    return int(dt.datetime.fromisoformat(text).timestamp()) * 1_000_000


START = at("2026-03-28T22:00:00Z")


def name_time(microseconds):
    return f"{dt.datetime.fromtimestamp(microseconds // 1_000_000, dt.UTC):%Y-%m-%dT%H:%M:%SZ}"


def observation(slot, quantity="1.5", quality="OK", **more):
    return {"PeriodStartTime": name_time(START + slot * HOUR), "Quantity": quantity, "Quality": quality, **more}


def series(*observations, **fields):
    return {
        "MeteringPointEAN": POINT,
        "ResolutionDuration": "PT1H",
        "ProductType": ACTIVE,
        "UnitType": "kWh",
        "ReadingType": "BN01",
        **fields,
        "Observations": list(observations),
    }


def answer(*all_series, header=None, **transaction):
    header = {"Identification": "m", "Creation": CREATED} if header is None else header
    return {
        "RetrieveTimeSeriesData": {"Header": header, "Transaction": {"TimeSeries": list(all_series), **transaction}}
    }


def write(folder, content, name="f.json"):
    path = folder / name
    text = content if isinstance(content, bytes | str) else json.dumps(content)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def read(folder, content, options=None, name="f.json"):
    good, rejected = read_file(write(folder, content, name), options)
    return good, [(row["row"], row["reason"]) for row in rejected]


def reading(slot, energy=1_500_000, status=Status.OK, point=POINT, product=ACTIVE):
    return (point, product, START + slot * HOUR, 3600, at("2026-03-30T04:00:00Z"), energy, status)


@pytest.mark.parametrize("indent", [None, 0, 2])
@pytest.mark.parametrize("before", ["", "\ufeff", " \r\n\t"])
def test_an_answer_in_any_layout(tmp_path, indent, before):
    found = answer(
        series(observation(0), observation(1, "0.000001", "REVISED")), series(observation(0), MeteringPointEAN="640602")
    )
    path = write(tmp_path, before + json.dumps(found, indent=indent) + "\n")
    assert find_source(str(path), ReadOptions()).name == "datahub-json"
    assert read_file(path) == ([reading(0, point="640602"), reading(0), reading(1, 1, Status.REVISED)], [])


@pytest.mark.parametrize(
    ("unit", "product", "milliwatt_hours"),
    [
        ("Wh", ACTIVE, 1_500),
        ("MWh", ACTIVE, 1_500_000_000),
        ("GWh", ACTIVE, 1_500_000_000_000),
        ("kVArh", REACTIVE, 1_500_000),
        ("kWh", REACTIVE, 1_500_000),
        ("kVArh", ACTIVE, None),
        ("mWh", ACTIVE, None),
        (None, ACTIVE, None),
    ],
)
def test_units(tmp_path, unit, product, milliwatt_hours):
    good, rejected = read(tmp_path, answer(series(observation(0), UnitType=unit, ProductType=product)))
    if milliwatt_hours is None:
        assert (good, rejected) == ([], [(1, "bad_energy")])
    else:
        assert good == [reading(0, milliwatt_hours, product=product)]


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        ({}, "OK"),
        ({"Quality": "MISSING", "Quantity": None}, "MISSING"),
        ({"Quality": "MISSING", "Quantity": ""}, "MISSING"),
        ({"Quality": "UNCERTAIN"}, "UNCERTAIN"),
        ({"Quality": "ESTIMATED"}, "ESTIMATED"),
        ({"Quality": "REVISED"}, "REVISED"),
        ({"Quality": "Z01"}, "unknown_status"),
        ({"Quality": None}, "unknown_status"),
        ({"Quality": 5}, "unknown_status"),
        ({"Quantity": None}, "bad_energy"),
        ({"Quantity": "1,5"}, "bad_energy"),
        ({"Quantity": "NaN"}, "bad_energy"),
        ({"Quantity": "100000000"}, "bad_energy"),
        ({"Quantity": True}, "bad_energy"),
        ({"Quantity": {"value": "1.5"}}, "bad_energy"),
        ({"Quantity": 1.5}, "OK"),
        ({"Quantity": float("nan")}, "bad_energy"),
        ({"PeriodStartTime": "2026-02-30T00:00:00Z"}, "unreadable_row"),
        ({"PeriodStartTime": "2026-03-28T00:00:00"}, "unreadable_row"),
        ({"PeriodStartTime": 1_774_735_200}, "unreadable_row"),
        ({"PeriodStartTime": None}, "unreadable_row"),
    ],
)
def test_what_an_observation_says(tmp_path, said, outcome):
    good, rejected = read(tmp_path, answer(series(observation(3), observation(0) | said, observation(4))))
    kept = [one for one in good if one[2] not in (START + 3 * HOUR, START + 4 * HOUR)]
    assert [Status(one[6]).name for one in kept] + [reason for _, reason in rejected] == [outcome]
    assert [row for row, _ in rejected] in ([], [2])
    assert len(good) + len(rejected) == 3


@pytest.mark.parametrize("junk", ["###", 7, None, [], {}])
def test_what_is_no_observation_is_set_aside_alone(tmp_path, junk):
    good, rejected = read(tmp_path, answer(series(observation(0), junk, observation(1))))
    assert (good, rejected) == ([reading(0), reading(1)], [(2, "unreadable_row")])


def test_a_series_without_a_unit_does_not_take_that_of_another(tmp_path):
    bare = series(observation(0))
    del bare["UnitType"]
    for unit in ("kWh", "MWh"):
        good, rejected = read(tmp_path, answer(bare, series(observation(1), UnitType=unit)))
        assert ([one[2] for one in good], rejected) == ([START + HOUR], [(1, "bad_energy")])


def test_numbers_are_read_as_they_stand(tmp_path):
    """No float in between: all digits of an id and of a quantity."""
    text = json.dumps(answer(series(observation(0, "@")))).replace(f'"{POINT}"', POINT)
    assert read(tmp_path, text.replace('"@"', "12345678.123456"))[0] == [reading(0, 12_345_678_123_456)]
    good, rejected = read(tmp_path, text.replace('"@"', "1").replace(POINT, "6.43007E+17"))
    assert (good, rejected) == ([], [(1, "mangled_identifier")])


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"MeteringPointEAN": ""}, "mangled_identifier"),
        ({"MeteringPointEAN": None}, "mangled_identifier"),
        ({"MeteringPointEAN": "6,43007E+17"}, "mangled_identifier"),
        ({"ResolutionDuration": "P1M"}, "unreadable_row"),
        ({"ResolutionDuration": None}, "unreadable_row"),
        ({"UnitType": "MW"}, "bad_energy"),
    ],
)
def test_a_faulty_series_is_set_aside_whole_and_its_neighbours_are_read(tmp_path, fault, reason):
    pair = observation(0), observation(1)
    good, rejected = read(tmp_path, answer(series(*pair), series(*pair, **fault), series(*pair)))
    assert len(good) == 4
    assert rejected == [(3, reason), (4, reason)]


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("MeteringPointEAN", "mangled_identifier"),
        ("ProductType", "mangled_identifier"),
        ("Quantity", "bad_energy"),
        ("Quality", "unknown_status"),
        ("PeriodStartTime", "unreadable_row"),
    ],
)
def test_a_field_that_comes_twice_is_not_chosen_from(tmp_path, key, reason):
    text = json.dumps(answer(series(observation(0))))
    value = text.partition(f'"{key}": "')[2].partition('"')[0]
    one = f'"{key}": "{value}"'
    assert read(tmp_path, text.replace(one, f"{one}, {one}")) == ([], [(1, reason)])


def test_what_is_set_aside_is_shown_as_it_stood(tmp_path):
    path = write(tmp_path, answer(series(observation(0, quality="Q?"), UnitType="MW")))
    (row,) = read_file(path)[1]
    assert (row["energy"], row["status"], row["start"]) == ("1.5 MW", "Q?", "2026-03-28T22:00:00Z")
    assert (row["metering_point_id"], row["registered_at"]) == (POINT, "2026-03-30T04:00:00Z")


def test_when_an_answer_was_registered(tmp_path):
    def moment(header, **options):
        found = answer(series(observation(0)), header=header)
        return read(tmp_path, found, ReadOptions(**options), "a_20260330T050000Z.json")[0][0][4]

    both = {"RegistrationTimestamp": "2026-03-29T01:00:00Z", "Creation": CREATED}
    assert moment(both) == at("2026-03-29T01:00:00Z")
    assert moment({"Creation": CREATED}, registered_at="2026-05-01T00:00:00Z") == at("2026-03-30T04:00:00Z")
    assert moment({}, registered_at="file-name") == at("2026-03-30T05:00:00Z")
    with pytest.raises(BadFileError, match="--registered-at"):
        moment({})
    assert read(tmp_path, answer(series(observation(0)), header={"Creation": "today"})) == ([], [(1, "unreadable_row")])


@pytest.mark.parametrize("day", ["2026-03-29", "2026-10-25"])
def test_both_clock_changes_are_hours_like_others(tmp_path, day):
    first = (at(f"{day}T00:00:00Z") - START) // HOUR
    found = answer(
        series(*(observation(first + hour) for hour in range(6))), header={"Creation": "2026-11-01T00:00:00Z"}
    )
    good, rejected = read(tmp_path, found)
    assert rejected == []
    assert [one[2] for one in good] == [START + (first + hour) * HOUR for hour in range(6)]


def reasons(*codes):
    return {"ReasonCode": codes[0], "EventReasons": {"EventReason": [{"EventReasonCode": code} for code in codes]}}


def test_no_data_is_an_empty_answer(tmp_path):
    found = answer(**reasons("RC-MDM-RMV-100"))
    del found["RetrieveTimeSeriesData"]["Transaction"]["TimeSeries"]
    assert read(tmp_path, found) == ([], [])
    assert read(tmp_path, answer()) == ([], [])
    assert read(tmp_path, answer(series())) == ([], [])


@pytest.mark.parametrize("codes", [("RC-ACC-001",), ("RC-MDM-RMV-100", "RC-ACC-001")])
def test_an_error_of_the_interface_is_said(tmp_path, codes):
    for found in (answer(**reasons(*codes)), answer(series(observation(0)), **reasons(*codes))):
        with pytest.raises(BadFileError, match=r"error of the interface \(RC-ACC-001\)"):
            read(tmp_path, found)
    with pytest.raises(BadFileError, match="with a code in another form") as error:
        read(tmp_path, answer(**reasons(f"point {POINT}")))
    assert POINT not in str(error.value)


@pytest.mark.parametrize("name", ["timeSeriesWithValues.json", "timeSeriesWithErrors.json"])
def test_public_samples(name):
    path = SHARED / "datahub_json" / name
    if not path.exists():
        pytest.skip("the public samples are not here")
    good, rejected = read_file(path)
    assert rejected == []
    expected = [("2024-07-27T21:00:00Z", 1_509_000), ("2024-07-27T22:00:00Z", 3_353_000)] if "Values" in name else []
    assert [(one[2], one[5]) for one in good] == [(at(start), energy) for start, energy in expected]
    assert {one[:2] + one[3:5] + one[6:] for one in good} <= {
        ("642502030419633983", ACTIVE, 3600, at("2024-07-29T00:00:00Z"), Status.OK)
    }


@pytest.mark.parametrize("name", ["customerData.json", "customerDataWithoutData.json"])
def test_a_customer_record_has_no_readings(name):
    path = SHARED / "datahub_json" / name
    if not path.exists():
        pytest.skip("the public samples are not here")
    with pytest.raises(BadFileError, match="customer's record"):
        read_file(path)


@pytest.mark.parametrize("numbers", [False, True])
def test_every_cut_of_a_file_is_refused(tmp_path, numbers):
    whole = json.dumps(answer(series(observation(0), observation(1, 12.5 if numbers else "12.5"))), indent=1).encode()
    path = tmp_path / "f.json"
    for length in range(1, len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(BadFileError):
            read_file(path)
    path.write_bytes(whole)
    assert len(read_file(path)[0]) == 2


GOOD = json.dumps(answer(series(observation(0))))


@pytest.mark.parametrize(
    "text",
    [
        GOOD + GOOD,
        GOOD + "\n" + GOOD,
        GOOD + "x",
        GOOD + "\0",
        "[" + GOOD + "]",
        '{"RetrieveTimeSeriesData": null}',
        '{"RetrieveTimeSeriesData": {}}',
        '{"RetrieveTimeSeriesData": {"Header": {}, "Transaction": {}}}',
        '{"RetrieveTimeSeriesData": {"Header": {}, "Transaction": []}}',
        GOOD.replace('"Observations"', '"Values"'),
        GOOD.replace('"TimeSeries": [', '"TimeSeries": [7, '),
        GOOD.replace('"TimeSeries": [', '"TimeSeries": [], "TimeSeries": ['),
        GOOD.replace('"TimeSeries": [', '"TimeSeries": {"a": [').replace("]}}}", "]}}}}"),
        GOOD.replace('"1.5"', '"' + "1" * 2_000 + '"'),
        GOOD.replace('"kWh"', '"' + "k" * 2_000 + '"'),
        GOOD.replace('"1.5"', "[" * 100_000 + "]" * 100_000),
        GOOD.replace('"1.5"', '"\\ud800"'),
        GOOD.replace('"1.5"', '"a\nb"'),
        GOOD.replace('"1.5"', "'1.5'"),
        GOOD.replace('"OK"}', '"OK",}'),
        GOOD.encode().replace(b'"1.5"', b'"\xff"'),
        GOOD.encode().replace(b'"m"', b'"\xff"'),
        GOOD.encode("utf-16"),
    ],
)
def test_what_is_no_whole_answer_is_refused(tmp_path, text):
    with pytest.raises(BadFileError):
        read(tmp_path, text, ReadOptions(format="datahub-json", registered_at="2026-05-01T00:00:00Z"))


def test_a_file_that_is_too_long_is_not_read_at_all(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.sources.datahub_json.MOST_BYTES", 2 << 20)
    monkeypatch.setattr("pipeline.sources.datahub_json.parse_answer", None)
    with pytest.raises(BadFileError, match="longer than an answer can be"):
        read(tmp_path, GOOD + " " * (2 << 20))


VALUES = st.decimals(Decimal(0), Decimal("99999999.999999"), places=6)
LISTS = st.lists(st.lists(st.none() | VALUES, max_size=8), min_size=1, max_size=5)


@given(LISTS, st.integers(1, 9))
def test_every_value_comes_out_as_it_went_in(tmp_path_factory, lists, batch):
    parts = [
        series(
            *(
                observation(slot, None if value is None else str(value), "MISSING" if value is None else "OK")
                for slot, value in enumerate(values)
            ),
            MeteringPointEAN=f"64{index}",
        )
        for index, values in enumerate(lists)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.sources.datahub_json._BATCH", batch)
        good, rejected = read(tmp_path_factory.mktemp("f"), answer(*parts))
    assert rejected == []
    assert good == [
        reading(slot, int((value or 0) * 1_000_000), Status.MISSING if value is None else Status.OK, f"64{index}")
        for index, values in enumerate(lists)
        for slot, value in enumerate(values)
    ]


def test_rows_are_numbered_through_over_the_deliveries_of_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.sources.datahub_json._BATCH", 7)
    parts = [series(*map(observation, range(5)), observation(6, "x"), MeteringPointEAN=f"6{n}") for n in range(9)]
    good, rejected = read(tmp_path, answer(series(), *parts, series()))
    assert [(one[0], (one[2] - START) // HOUR) for one in good] == [(f"6{n}", s) for n in range(9) for s in range(5)]
    assert rejected == [(row, "bad_energy") for row in range(6, 55, 6)]


def test_the_same_reading_by_the_portal_and_by_an_answer_is_one(tmp_path):
    path = tmp_path / "portal.csv"
    path.write_text(
        "MeteringPointGSRN;Product Type;Resolution;Unit Type;Reading Type;Start Time;Quantity;Quality\n"
        f"{POINT};{ACTIVE};PT1H;kWh;BN01;2026-03-28T22:00:00Z;1,500000;OK\n"
        f"{POINT};{ACTIVE};PT1H;kWh;BN01;2026-03-28T23:00:00Z;;MISSING\n"
    )
    portal, _ = read_file(path, ReadOptions(registered_at="2026-03-30T04:00:00Z"))
    assert read(tmp_path, answer(series(observation(0), observation(1, None, "MISSING"))))[0] == portal


SCALARS = st.sampled_from(
    [None, "", "1.5", "x", "OK", "MISSING", name_time(START), "PT1H", "kWh", POINT, "0", "\u00e4"]
)
ODD = st.sampled_from([7, 1.5, True, [], {}, ["x"], {"a": {"b": []}}])


def places(value, path=()):
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield (*path, key)
            yield from places(inner, (*path, key))


@given(st.data())
def test_both_ways_of_parsing_agree(data):
    """Values of other kinds anywhere, fields left out and texts changed: the same answer, or none, by both ways."""
    found = copy.deepcopy(answer(series(observation(0), observation(1)), series(observation(2)), **reasons("RC-1")))
    for _ in range(data.draw(st.integers(0, 3))):
        path = data.draw(st.sampled_from(list(places(found)) or [("more",)]))
        holder = found
        for key in path[:-1]:
            holder = holder[key]
        if data.draw(st.booleans()):
            holder[path[-1]] = copy.deepcopy(data.draw(st.one_of(SCALARS, ODD)))
        else:
            holder.pop(path[-1], None) if isinstance(holder, dict) else holder.pop(path[-1])
    text = json.dumps(found, indent=data.draw(st.sampled_from([None, 1])))
    if data.draw(st.booleans()):
        place = data.draw(st.integers(0, len(text) - 1))
        text = text[:place] + data.draw(st.sampled_from(["", ",", "}", '"', "\\", "5", "\n"])) + text[place + 1 :]
    content = text.encode()

    def outcome():
        try:
            parsed = datahub_answers.parse_answer(content)
        except (ValueError, pa.ArrowException):
            return None
        return parsed.registered, parsed.reasons, None if parsed.series is None else parsed.series.to_pylist()

    with pytest.MonkeyPatch.context() as patch:
        by_columns = outcome()
        patch.setattr(datahub_answers, "_parse_columns", refuse)
        assert by_columns == outcome()


def refuse(_content):
    raise pa.ArrowInvalid("not this way")
