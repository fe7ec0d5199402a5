import datetime as dt
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from source_cases import POINT, read_file

from pipeline.errors import BadFileError
from pipeline.sources import datahub_xml
from pipeline.sources.base import ReadOptions
from pipeline.sources.datahub_runs import Layouts
from pipeline.sources.registry import find_source
from schemas.status import Status

ACTIVE, REACTIVE = "8716867000030", "8716867000139"
BARE = '<?xml version="1.0" encoding="UTF-8"?>{}'
SOAP = (
    '<?xml version="1.0"?>\n<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Header><s:a/></s:Header>'
    '<s:Body><p:PeekMessageResponse xmlns:p="urn:peek"><p:Payload>{}</p:Payload></p:PeekMessageResponse></s:Body>'
    "</s:Envelope>\n"
)
REGISTERED = "2026-03-30T04:00:00Z"


def observation(number, value="1.5", quality=None):
    quality = "" if quality is None else f"<QQ>{quality}</QQ>"
    return f"<OBS><SEQ>{number}</SEQ><EOBS><QTY>{value}</QTY>{quality}</EOBS></OBS>"


def missing(number, inside="<QM>true</QM>"):
    return f"<OBS><SEQ>{number}</SEQ><EOBS>{inside}</EOBS></OBS>"


def series(
    *observations, point=POINT, start="2026-03-28T22:00:00Z", resolution="PT1H", unit="kWh", product=ACTIVE, more=""
):
    return (
        "<Transaction><UniqueIdentification>u</UniqueIdentification><ObservationPeriodTimeSeriesPeriod>"
        f"<ResolutionDuration>{resolution}</ResolutionDuration><Start>{start}</Start><End>{start}</End>"
        "</ObservationPeriodTimeSeriesPeriod><ProductIncludedProductCharacteristic>"
        f"<Identification>{product}</Identification><UnitType>{unit}</UnitType></ProductIncludedProductCharacteristic>"
        "<MeteringPointUsedDomainLocation>"
        f'<Identification schemeAgencyIdentifier="9">{point}</Identification></MeteringPointUsedDomainLocation>{more}'
        f"{''.join(observations)}</Transaction>"
    )


def message(*all_series, registered=REGISTERED):
    stamp = f"<RegistrationTimestamp>{registered}</RegistrationTimestamp>" if registered else ""
    header = f"<Header><Identification>m</Identification><DocumentType>E66</DocumentType>{stamp}</Header>"
    inside = f"<EnergyTimeSeries>{header}{''.join(all_series)}</EnergyTimeSeries>"
    return f'<EnergyTimeSeriesMessage xmlns="urn:v1">{inside}</EnergyTimeSeriesMessage>'


def with_prefix(text, prefix):
    text = text.replace(' xmlns="urn:v1"', f' xmlns:{prefix}="urn:v2"')
    return text.replace("<", f"<{prefix}:").replace(f"<{prefix}:/", f"</{prefix}:")


def read(folder, *parts, around=BARE, options=None, name="f.xml", **header):
    path = folder / name
    path.write_text(around.format(message(*parts, **header)), "utf-8")
    good, rejected = read_file(path, options)
    return good, [(row["row"], row["reason"]) for row in rejected]


def at(text):
    return int(dt.datetime.fromisoformat(text).timestamp()) * 1_000_000


HOUR = 3_600_000_000
START = at("2026-03-28T22:00:00Z")


@pytest.mark.parametrize("prefix", [None, "urn", "ns0"])
@pytest.mark.parametrize("around", [BARE, SOAP])
def test_a_message_in_its_envelope_or_bare_under_any_namespace(tmp_path, around, prefix):
    text = message(series(observation(1), observation(2, "0.000001", "Z01")), series(missing(1), point="640602"))
    path = tmp_path / "f.xml"
    path.write_text(around.format(with_prefix(text, prefix) if prefix else text))
    assert find_source(str(path), ReadOptions()).name == "datahub-xml"
    good, rejected = read_file(path)
    assert rejected == []
    assert good == sorted(
        [
            (POINT, ACTIVE, START, 3600, at(REGISTERED), 1_500_000, Status.OK),
            (POINT, ACTIVE, START + HOUR, 3600, at(REGISTERED), 1, Status.REVISED),
            ("640602", ACTIVE, START, 3600, at(REGISTERED), 0, Status.MISSING),
        ]
    )


@pytest.mark.parametrize(
    ("unit", "product", "milliwatt_hours"),
    [
        ("Wh", ACTIVE, 1_500),
        ("kWh", ACTIVE, 1_500_000),
        ("MWh", ACTIVE, 1_500_000_000),
        ("GWh", ACTIVE, 1_500_000_000_000),
        ("kVArh", REACTIVE, 1_500_000),
        ("MVARH", REACTIVE, 1_500_000_000),
        ("kWh", REACTIVE, 1_500_000),
        ("kVArh", ACTIVE, None),
        ("mWh", ACTIVE, None),
        ("", ACTIVE, None),
    ],
)
def test_units(tmp_path, unit, product, milliwatt_hours):
    good, rejected = read(tmp_path, series(observation(1), unit=unit, product=product))
    if milliwatt_hours is None:
        assert (good, rejected) == ([], [(1, "bad_energy")])
    else:
        assert [reading[1:2] + reading[5:6] for reading in good] == [(product, milliwatt_hours)]


def test_statuses(tmp_path):
    words = [None, "Z01", "Z02", "21", "99", "56", "Z04", "E01", ""]
    good, rejected = read(tmp_path, series(*(observation(n, 1, word) for n, word in enumerate(words, 1))))
    expected = ["OK", "REVISED", "UNCERTAIN", "UNCERTAIN", "ESTIMATED", "ESTIMATED", "PARTIAL"]
    assert [Status(reading[6]).name for reading in good] == expected
    assert rejected == [(8, "unknown_status"), (9, "unknown_status")]


@pytest.mark.parametrize(
    ("inside", "outcome"),
    [
        ("<QM/>", "MISSING"),
        ("<QM>1</QM>", "MISSING"),
        ("<QM>false</QM>", "bad_energy"),
        ("<QTY>1</QTY><QM>false</QM>", "OK"),
        ("<QTY>1</QTY><QM>true</QM>", "unknown_status"),
        ("<QM/><QQ>56</QQ>", "bad_energy"),
        ("<QTY>1</QTY><QTY>2</QTY>", "bad_energy"),
        ("<QTY>1</QTY><QQ>56</QQ><QQ>Z01</QQ>", "unknown_status"),
        ("<QTY> 1 </QTY>", "OK"),
        ("<QTY><![CDATA[1]]><!-- . --></QTY>", "OK"),
        ("<QTY>1&#46;0</QTY>", "OK"),
        ("<QTY>1,5</QTY>", "bad_energy"),
        ("<QTY>NaN</QTY>", "bad_energy"),
        ("<QTY>100000000</QTY>", "bad_energy"),
        ("<QTY/>", "bad_energy"),
        ("", "bad_energy"),
    ],
)
def test_what_an_observation_says(tmp_path, inside, outcome):
    good, rejected = read(tmp_path, series(missing(1, inside)))
    assert [Status(reading[6]).name for reading in good] + [reason for _, reason in rejected] == [outcome]


def test_the_place_of_an_observation_is_its_number(tmp_path):
    numbers = [1, 5, 6, 3, 3, 0, -1, "x", "", 9_999_999, "2</SEQ><SEQ>2"]
    good, rejected = read(tmp_path, series(*map(observation, numbers), resolution="PT15M"))
    assert [(reading[2] - START) // (HOUR // 4) for reading in good] == [0, 2, 2, 4, 5]
    assert rejected == [(row, "unreadable_row") for row in range(6, 12)]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"start": "2026-03-28T22:00:00"}, "unreadable_row"),
        ({"start": "2026-02-30T22:00:00Z"}, "unreadable_row"),
        ({"start": ""}, "unreadable_row"),
        ({"resolution": "P1M"}, "unreadable_row"),
        ({"resolution": ""}, "unreadable_row"),
        ({"point": ""}, "mangled_identifier"),
        ({"point": "6,43007E+17"}, "mangled_identifier"),
        ({"point": f"{POINT}</Identification><Identification>{POINT}"}, "mangled_identifier"),
        ({"product": f"{ACTIVE}</Identification><Identification>{ACTIVE}"}, "mangled_identifier"),
    ],
)
def test_a_faulty_series_is_set_aside_whole_and_its_neighbours_are_read(tmp_path, fault, reason):
    pair = observation(1), observation(2)
    good, rejected = read(tmp_path, series(*pair), series(*pair, **fault), series(*pair))
    assert len(good) == 4
    assert rejected == [(3, reason), (4, reason)]


def test_what_is_set_aside_is_shown_as_it_stood(tmp_path):
    path = tmp_path / "f.xml"
    path.write_text(message(series(observation("x", "1.5", "Q?"), observation(2), unit="MW")))
    _, rejected = read_file(path)
    assert [row["energy"] for row in rejected] == ["1.5 MW", "1.5 MW"]
    assert [row["start"] for row in rejected] == ["2026-03-28T22:00:00Z SEQ x", "2026-03-28T23:00:00Z"]
    assert rejected[0]["status"] == "Q?"


@pytest.mark.parametrize("start", ["2026-03-29T00:00:00+02:00", "2026-03-28T22:00:00.0000000Z"])
def test_a_start_with_an_offset_or_a_fraction(tmp_path, start):
    good, _ = read(tmp_path, series(observation(1), start=start))
    assert [reading[2] for reading in good] == [START]


@pytest.mark.parametrize("day", ["2026-03-29", "2026-10-25"])
def test_both_clock_changes_are_hours_like_others(tmp_path, day):
    first = at(f"{day}T00:00:00Z")
    good, rejected = read(tmp_path, series(*map(observation, range(1, 7)), start=f"{day}T00:00:00Z"))
    assert rejected == []
    assert [reading[2] for reading in good] == [first + slot * HOUR for slot in range(6)]


def test_a_message_without_a_registration_time_takes_that_of_the_options_or_is_refused(tmp_path):
    with pytest.raises(BadFileError, match="--registered-at"):
        read(tmp_path, series(observation(1)), registered=None)
    options = ReadOptions(registered_at="file-name")
    good, _ = read(tmp_path, series(observation(1)), registered=None, options=options, name="a_20260330T050000Z.xml")
    assert good[0][4] == at("2026-03-30T05:00:00Z")
    good, _ = read(tmp_path, series(observation(1)), options=ReadOptions(registered_at="2026-05-01T00:00:00Z"))
    assert good[0][4] == at(REGISTERED)
    good, rejected = read(tmp_path, series(observation(1)), registered="yesterday")
    assert (good, rejected) == ([], [(1, "unreadable_row")])


def test_each_message_of_a_file_has_its_own_registration_time(tmp_path):
    path = tmp_path / "f.xml"
    parts = [message(series(observation(1)), registered=f"2026-04-0{day}T00:00:00Z") for day in (1, 2)]
    path.write_text(f"<all>{''.join(parts)}</all>")
    good, _ = read_file(path)
    assert [reading[4] for reading in good] == [at("2026-04-01T00:00:00Z"), at("2026-04-02T00:00:00Z")]


def test_an_answer_without_series_is_empty_and_a_file_without_messages_is_refused(tmp_path):
    assert read(tmp_path, series(), series()) == ([], [])
    path = tmp_path / "other.xml"
    path.write_text("<a/>")
    with pytest.raises(BadFileError, match="no known format"):
        read_file(path)
    with pytest.raises(BadFileError, match="no energy time series"):
        read_file(path, ReadOptions(format="datahub-xml"))


def test_every_cut_of_a_file_is_refused(tmp_path):
    whole = SOAP.format(message(series(observation(1, "12.5"), missing(2)))).encode().rstrip()
    path = tmp_path / "f.xml"
    for length in range(1, len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(BadFileError):
            read_file(path)
    path.write_bytes(whole)
    assert len(read_file(path)[0]) == 2


ENTITY = '<!DOCTYPE a [<!ENTITY e "1"><!ENTITY f "&e;&e;&e;">]>'


@pytest.mark.parametrize(
    "around",
    [
        ENTITY + "{}",
        '<!DOCTYPE a SYSTEM "file:///etc/hostname">{}',
        "<!DOCTYPE EnergyTimeSeriesMessage>{}",
        "{}{}",
        "{}<",
        "{}text",
        "<a>{}",
        '<?xml version="1.0" encoding="nonsense"?>{}',
    ],
)
def test_a_document_type_or_damage_is_refused(tmp_path, around):
    path = tmp_path / "f.xml"
    path.write_text(around.replace("{}", message(series(observation(1)))))
    with pytest.raises(BadFileError):
        read_file(path)


@pytest.mark.parametrize(
    "wrong",
    [
        observation(1),
        series(series(observation(1))),
        series("<OBS><OBS><SEQ>1</SEQ></OBS></OBS>"),
        series("<EOBS><QTY>1</QTY></EOBS>"),
        series("<OBS><SEQ>1<b/>2</SEQ></OBS>"),
        series(observation(1)) + "<Header><RegistrationTimestamp>x</RegistrationTimestamp></Header>",
        series(observation("1" * 2000)),
        series("<a>" * 200 + "</a>" * 200),
        "<EnergyTimeSeries></EnergyTimeSeries>",
        series(observation("&undeclared;")),
    ],
)
def test_what_no_message_has_is_refused(tmp_path, wrong):
    with pytest.raises(BadFileError):
        read(tmp_path, wrong)


def test_what_the_parser_must_hold_whole_is_bounded(tmp_path):
    one = series(observation(1))
    assert len(read(tmp_path, one + " " * (9 << 20) + one)[0]) == 2
    assert len(read(tmp_path, one + "<other>" + "x" * (9 << 20) + "</other>" + one)[0]) == 2
    for wrong in (f"<!--{'x' * (9 << 20)}-->", f"<other name='{'x' * (9 << 20)}'/>", f"<{'x' * (9 << 20)}/>"):
        with pytest.raises(BadFileError, match="a tag or a comment is longer"):
            read(tmp_path, one + wrong + one)
    with pytest.raises(BadFileError, match="a field is longer"):
        read(tmp_path, series(observation("<![CDATA[1]]>" * 1_001)))


def test_bytes_that_look_like_observations_are_none_in_another_encoding(tmp_path):
    plain = observation(1)
    hidden = plain.encode().decode("utf-16-le") if len(plain) % 2 == 0 else f"{plain} ".encode().decode("utf-16-le")
    path = tmp_path / "f.xml"
    for encoding in ("utf-16-le", "utf-16-be"):
        text = message(series(plain, hidden)).replace("UTF-8", "UTF-16")
        path.write_bytes("\ufeff".encode(encoding) + text.encode(encoding))
        good, rejected = read_file(path, ReadOptions(format="datahub-xml"))
        assert (len(good), rejected) == (1, [])


VALUES = st.decimals(Decimal(0), Decimal("99999999.999999"), places=6)
LISTS = st.lists(st.lists(st.none() | VALUES, max_size=8), min_size=1, max_size=5)


@given(LISTS, st.sampled_from([(60, "PT1M"), (900, "PT15M"), (3600, "PT1H"), (86_400, "P1D")]))
def test_every_value_comes_out_as_it_went_in(tmp_path_factory, lists, resolution):
    seconds, name = resolution
    parts = [
        series(
            *(missing(n) if value is None else observation(n, value) for n, value in enumerate(values, 1)),
            point=f"64{index}",
            resolution=name,
        )
        for index, values in enumerate(lists)
    ]
    good, rejected = read(tmp_path_factory.mktemp("f"), *parts)
    assert rejected == []
    assert good == [
        (
            f"64{index}",
            ACTIVE,
            START + slot * seconds * 1_000_000,
            seconds,
            at(REGISTERED),
            int((value or 0) * 1_000_000),
            Status.MISSING if value is None else Status.OK,
        )
        for index, values in enumerate(lists)
        for slot, value in enumerate(values)
    ]


def test_the_deliveries_of_a_long_file_leave_nothing_out(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.sources.datahub_xml._BATCH", 7)
    monkeypatch.setattr("pipeline.sources.datahub_xml._CHUNK_BYTES", 300)
    good, rejected = read(
        tmp_path, *(series(*map(observation, range(1, 6)), observation(0), point=f"6{n}") for n in range(9))
    )
    assert [(reading[0], (reading[2] - START) // HOUR) for reading in good] == [
        (f"6{n}", slot) for n in range(9) for slot in range(5)
    ]
    assert rejected == [(row, "unreadable_row") for row in range(6, 55, 6)]


def test_the_same_reading_by_the_portal_and_by_a_message_is_one(tmp_path):
    path = tmp_path / "portal.csv"
    path.write_text(
        "MeteringPointGSRN;Product Type;Resolution;Unit Type;Reading Type;Start Time;Quantity;Quality\n"
        f"{POINT};{ACTIVE};PT1H;kWh;BN01;2026-03-28T22:00:00Z;1,500000;OK\n"
        f"{POINT};{ACTIVE};PT1H;kWh;BN01;2026-03-28T23:00:00Z;;MISSING\n"
    )
    portal, _ = read_file(path, ReadOptions(registered_at=REGISTERED))
    assert read(tmp_path, series(observation(1), missing(2)))[0] == portal


def text_of(forms):
    return st.one_of(st.sampled_from(forms), st.integers(0, 99).map(str))


TAGS = st.sampled_from(["SEQ", "EOBS", "QTY", "QQ", "QM"])
PLAIN = st.one_of(
    st.builds(observation, st.integers(0, 20), text_of(["1.5", " 2 ", "", "1 2", "1.2.3", "1.", ".5"]), st.none()),
    st.builds(observation, st.integers(1, 200), st.decimals(0, 10**9, places=6).map(str), st.none()),
    st.builds(observation, st.integers(1, 200), st.sampled_from(["0.0005", "0.0015", "0.000500", "7.0000001"])),
    st.builds(observation, st.integers(1, 20), st.just("3.25"), text_of(["Z01", "Z 04", "56", "21", "", "E01", "1Z0"])),
    st.builds(lambda n, word: missing(n, f"<QM>{word}</QM>"), st.integers(1, 20), text_of(["true", "tr ue", "", "0"])),
)
ODD = st.sampled_from(
    [
        "<!-- . -->",
        "<?a b?>",
        f"<!-- {observation(1)} -->",
        f"<![CDATA[{observation(1)}]]>",
        f"<x><![CDATA[{observation(1)}]]>{'<y/>'}</x>",
        f"<a>{observation(1).replace('OBS>', 'OBX>')}</a>",
        observation(7).replace("<SEQ>", "<SEQ >"),
        observation(7).replace("<OBS>", '<OBS a="1">'),
        observation(7).replace("QTY", "QTY2"),
        observation(7).replace("QTY", "Q.TY"),
        observation("&#55;"),
        observation(7, "<![CDATA[8]]>"),
        observation(7).replace("<EOBS>", "12 <EOBS>"),
        observation(7).replace("</OBS>", "</OBS >"),
        observation(7).replace("</SEQ>", "</SEQ><SEQ>8</SEQ>"),
        observation(7).replace("OBS>", "q:OBS>").replace("Eq:OBS", "EOBS"),
        observation("7" * 150),
        missing(7, "<QM/>"),
        missing(7, "<QQ>56</QQ><QTY>1</QTY>"),
        observation(7, "-1.5"),
        observation(7, "1e2"),
        observation(7).replace("</QTY>", "</QTX>"),
        observation(7).replace("</OBS>", "</q:OBS>"),
        observation(7)[:-3],
        "\r",
        " \r\n\t ",
        "12",
    ]
)


@given(
    st.lists(st.lists(st.one_of(PLAIN, PLAIN, PLAIN, ODD), max_size=8), min_size=1, max_size=3),
    st.sampled_from([None, "urn", "ns0"]),
    st.sampled_from(["", "\n  ", "\r\n"]),
    st.sampled_from([1 << 20, 97, 400]),
    st.sampled_from(["kWh", "kWh", "Wh", "MWh", "GWh", "kvarh"]),
    st.sampled_from([200, 200, 1, 0]),
)
def test_runs_are_read_as_one_by_one(tmp_path_factory, lists, prefix, between, chunk, unit, layouts):
    text = message(*(series(*observations, point=f"64{n}", unit=unit) for n, observations in enumerate(lists)))
    text = text.replace("><", f">{between}<") if between else text
    path = tmp_path_factory.mktemp("f") / "f.xml"
    path.write_bytes((with_prefix(text, prefix) if prefix and "<!" not in text and "<?" not in text else text).encode())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.sources.datahub_xml._CHUNK_BYTES", chunk)
        patch.setattr("pipeline.sources.datahub_runs._MOST_LAYOUTS", layouts)
        assert_same_both_ways(path)


def assert_same_both_ways(path):
    def outcome():
        try:
            return read_file(path)
        except BadFileError as error:
            return str(error).partition("(line")[0]

    with pytest.MonkeyPatch.context() as patch:
        by_runs = outcome()
        find = Layouts.find
        patch.setattr(Layouts, "find", lambda self, _: find(self, b""))
        assert by_runs == outcome()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("</p:OBS>", "</OBS>"),
        ("<p:SEQ>", "<SEQ>"),
        ("p:QTY>", "QTY>"),
        ("p:QTY>", "q:QTY>"),
        ("p:OBS>", "p:p:OBS>"),
        ("<p:OBS>", "<![CDATA[<p:OBS>"),
        ("</p:OBS></p:Transaction>", "</p:OBS>]]></p:Transaction>"),
        ("<p:SEQ>1<", "<p:SEQ>]]><"),
    ],
)
@pytest.mark.parametrize("around", ["{}", "<![CDATA[{}]]>", "<!--{}-->", "<?a {}?>", "<p:a>{}</p:a>", "<p:a b='{}'/>"])
def test_what_looks_like_a_run_and_is_none(tmp_path, around, old, new):
    text = with_prefix(message(series("@@")), "p")
    path = tmp_path / "f.xml"
    run = with_prefix(observation(1) + observation(2), "p")
    for inside in (run, run.replace(old, new)):
        path.write_text(text.replace("@@", around.format(inside)))
        assert_same_both_ways(path)


@pytest.mark.parametrize("prefix", [None, "ns0"])
def test_plain_observations_are_read_by_runs(tmp_path, monkeypatch, prefix):
    text = message(series(observation(1), observation(2, 1, "Z01"), observation(3, 1, "56"), missing(4)))
    path = tmp_path / "f.xml"
    path.write_text(with_prefix(text, prefix) if prefix else text)
    monkeypatch.setattr("pipeline.sources.datahub_xml._OF_OBSERVATION", None)  # one by one fails
    assert len(read_file(path)[0]) == 4


#: What a border can have that makes it another one than that of its neighbours, each as a change of a series' text.
CHANGES = st.sampled_from(
    [
        ("<UniqueIdentification>u<", "<UniqueIdentification>another one<"),
        (POINT, "640602"),
        (POINT, ""),
        (POINT, f" {POINT}\n"),
        (POINT, f"{POINT}\r\n"),
        (POINT, f"{POINT}'"),
        (POINT, "6&#52;0602"),
        (POINT, "6<!-- -->4"),
        (POINT, "<![CDATA[640602]]>"),
        (POINT, "6" * 1000),
        (POINT, "6" * 1001),
        (POINT, "\u00e4"),
        (POINT, "x>y"),
        (POINT, "x]]>y"),
        (POINT, "\x07"),
        (f">{POINT}</Identification>", "/>"),
        (f">{POINT}</Identification>", f">{POINT}</Identification><Identification>{POINT}</Identification>"),
        (' schemeAgencyIdentifier="9"', ""),
        (' schemeAgencyIdentifier="9"', ' schemeAgencyIdentifier=">9"'),
        (' schemeAgencyIdentifier="9"', ' schemeAgencyIdentifier="9" schemeAgencyIdentifier="9"'),
        ("<UnitType>kWh</UnitType>", ""),
        ("<UnitType>kWh</UnitType>", "<UnitType>MWh</UnitType>"),
        ("<UnitType>kWh</UnitType>", "<UnitType>kWh</UnitTyp>"),
        ("<UnitType>kWh</UnitType>", "<UnitType>kWh</UnitType></Transaction><Transaction>"),
        ("<UniqueIdentification>u</UniqueIdentification>", ""),
        ("<UniqueIdentification>u</UniqueIdentification>", "<OBS ><SEQ>1</SEQ><EOBS><QTY>7</QTY></EOBS></OBS>"),
        ("<UniqueIdentification>u</UniqueIdentification>", "<!-- <OBS> -->"),
        ("<UniqueIdentification>u</UniqueIdentification>", "<?u?>"),
        ("<UniqueIdentification>u</UniqueIdentification>", "<a><b/>text</a>"),
        ("</Transaction>", f"<MeteringPointUsedDomainLocation><Identification>9{POINT}</Identification></MeteringPointUsedDomainLocation></Transaction>"),
        ("</Transaction>", "</Transaction >"),
        ("</Transaction>", "<x/></Transaction>"),
        ("</Transaction>", "</Transaction><x>y</x>"),
        ("</Transaction>", "</Transaction></EnergyTimeSeries><EnergyTimeSeries>"),
        ("<Transaction>", "<Header><RegistrationTimestamp>2026-05-01T00:00:00Z</RegistrationTimestamp></Header><Transaction>"),
        ("<Transaction>", "<q:Transaction>"),
        ("<Transaction>", "<Transaction><Transaction>"),
        ("<Transaction>", "<Transaction a='1'>"),
    ]
)  # fmt: skip
ONE = st.tuples(st.lists(CHANGES, max_size=2), st.integers(1, 3))


@given(
    st.lists(ONE, min_size=1, max_size=4),
    st.sampled_from(["", "\n  ", "\r\n"]),
    st.sampled_from([1 << 20, 997, 3000]),
)
def test_borders_are_read_as_the_parser_reads_them(tmp_path_factory, kinds, between, chunk):
    parts = []
    for changes, times in kinds:
        text = series(observation(1), observation(2, "2.5", "Z01"))
        for old, new in changes:
            text = text.replace(old, new)
        parts += [text] * times + [series(observation(3))] * (times // 2)
    text = message(*parts)
    path = tmp_path_factory.mktemp("f") / "f.xml"
    path.write_bytes((text.replace("><", f">{between}<") if between else text).encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.sources.datahub_xml._CHUNK_BYTES", chunk)
        assert_same_both_ways(path)


@pytest.mark.parametrize("prefix", [None, "ns0"])
def test_plain_borders_are_not_given_to_the_parser(tmp_path, monkeypatch, prefix):
    points = [str(640602 + n) for n in range(50)]
    text = message(*(series(observation(1), point=point) for point in points))
    path = tmp_path / "f.xml"
    path.write_text(with_prefix(text, prefix) if prefix else text)
    given = []
    parse = datahub_xml._Reader._parse
    monkeypatch.setattr(datahub_xml._Reader, "_parse", lambda self, data: given.append(data) or parse(self, data))
    assert [reading[0] for reading in read_file(path)[0]] == points
    assert sum(map(len, given)) < 0.2 * 2 * len(text)


def test_a_closing_tag_must_be_that_of_the_series_that_is_open(tmp_path):
    """A border as before, but behind a series of another name, which a later one closes: no XML."""
    one = series(observation(1))
    begun, ended = one.replace("<Transaction>", "<q:Transaction>"), one.replace("</Transaction>", "</q:Transaction>")
    with pytest.raises(BadFileError):
        read(tmp_path, one, one, one, begun, ended)


HEAD = series()[: -len("</Transaction>")]
BORDER = f"</Transaction>\n{HEAD}"
PRODUCT = "ProductIncludedProductCharacteristic"


def learn(border):
    borders, data = datahub_xml._Reader("", ReadOptions())._borders, border.encode()
    borders.learn(data)
    (found,) = borders.find(data + b"<OBS>...", np.array([0]), np.array([len(data)]), b"</Transaction>")
    return found


def test_a_border_that_is_known_gives_its_fields():
    assert learn(BORDER) == (POINT, ACTIVE, "kWh", "PT1H", "2026-03-28T22:00:00Z")
    assert learn(BORDER.replace("><", "> \r\n<")) == learn(BORDER)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("</Transaction>", "<x/></Transaction>"),
        ("</Transaction>", "</q:Transaction>"),
        ("</Transaction>", "</Transaction></EnergyTimeSeries><EnergyTimeSeries>"),
        ("</Transaction>", "</Transaction><Header></Header>"),
        ("</Transaction>", "</Transaction><Transaction></Transaction>"),
        ("<UniqueIdentification>u", "<OBS ></OBS><UniqueIdentification>u"),
        ("<UniqueIdentification>u", "<EOBS></EOBS><UniqueIdentification>u"),
        ("<UniqueIdentification>u", "<!-- --><UniqueIdentification>u"),
        ("<UniqueIdentification>u", "<?u?><UniqueIdentification>u"),
        ("<UniqueIdentification>u", "<UniqueIdentification>&#117;"),
        ("<UniqueIdentification>u", "<UniqueIdentification>\u00e4"),
        ('"9"', '">9"'),
        ('"9"', "'>9'"),
        ("<UnitType>kWh</UnitType>", ""),
        ("<UnitType>kWh</UnitType>", "<UnitType/>"),
        ("<UnitType>kWh</UnitType>", "<UnitType>kWh</UnitType>" * 2),
        (f"</{PRODUCT}>", f"</{PRODUCT}><a>"),
    ],
)
def test_a_border_with_more_to_it_is_left_to_the_parser(old, new):
    assert old in BORDER
    assert learn(BORDER.replace(old, new)) is None


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "latin-1"])
def test_other_encodings(tmp_path, encoding):
    text = message(series(observation(1), observation(2)), series(observation(1), point="640602"))
    plain, other = tmp_path / "a.xml", tmp_path / "b.xml"
    plain.write_text(text)
    named = {"latin-1": '<?xml version="1.0" encoding="ISO-8859-1"?>'}.get(encoding, "")
    other.write_bytes(
        (named + text.replace("<UniqueIdentification>u", "<UniqueIdentification>\u00e4")).encode(encoding)
    )
    assert find_source(str(other), ReadOptions()).name == "datahub-xml"
    assert read_file(other) == read_file(plain)
