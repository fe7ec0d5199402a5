"""Publishing: what is published is what the readings say, protected, once, and in one commit with everything else."""

import json
from contextlib import redirect_stdout
from datetime import UTC, date, datetime, timedelta
from io import StringIO
from unittest.mock import patch

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from privacy_support import make_fleet
from published import AREAS, RULE, fill, publish, site_hours
from whole_job import ingest, make_keys, paths_of, query, rows_of

from pipeline import journal
from pipeline.cli import main
from pipeline.errors import MeterveilError
from pipeline.findings import Findings
from pipeline.lake import create_lake, open_lake
from pipeline.maintain import maintain
from pipeline.policy_file import load_policy
from pipeline.table_state import CurrentFile
from pipeline.verify import verify_lake
from pipeline.verify_published import check_published
from pipeline.verify_tables import TableFiles
from schemas.flags import Flag

MONTHS = "analytics.partner_green"
#: Of the newest day: points that use active energy, and the share of their readings that no other point has then too.
UNIQUE_READINGS = f"""
    WITH r AS (
        SELECT * FROM t WHERE local_date = (SELECT max(local_date) FROM t) AND product = '8716867000030'
            AND direction = 'consumption' AND energy IS NOT NULL AND flags & {int(Flag.UNKNOWN_POINT)} = 0
    ),
    c AS (SELECT start, energy, count(DISTINCT metering_point_id) AS n FROM r GROUP BY ALL),
    u AS (SELECT local_date, metering_point_id, avg((n = 1)::int) AS share FROM r JOIN c USING (start, energy) GROUP BY ALL)
    SELECT any_value(local_date), count(*), avg(share) FROM u
"""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    return make_fleet(tmp_path_factory.mktemp("fleet"), points=300, days=3)


@pytest.fixture(scope="module")
def made(fleet, tmp_path_factory):
    """A lake that has published everything, its keys, and the record."""
    folder = tmp_path_factory.mktemp("made")
    lake, keys = fill(fleet, folder)
    return lake, keys, publish(lake, keys)


def test_sums_are_those_of_the_readings_and_what_is_suppressed_is_gone(made, fleet):
    lake, _, _ = made
    truth = {}
    for municipality, postal, product, direction, start, site, energy in site_hours(lake, fleet):
        for level, area in (
            ("postal_area", (municipality, postal)), ("municipality", (municipality, None)), ("all", (None, None)),
        ):  # fmt: skip
            truth.setdefault((level, *area, product, direction, start), {}).setdefault(site, 0)
            truth[level, *area, product, direction, start][site] += energy
    rows = query(
        lake,
        AREAS,
        "SELECT level, municipality_name, postal_area, product, direction, start, sites, energy, mean, suppressed FROM t",
    )
    assert {row[:6] for row in rows} == truth.keys()
    assert len(rows) == len(truth)
    shown = 0
    for *key, sites, energy, mean, suppressed in rows:
        values = truth[tuple(key)].values()
        if suppressed:
            assert (sites, energy, mean) == (None, None, None)
            continue
        shown += 1
        assert (sites, energy) == (len(values), sum(values)), key
        assert abs(mean * sites - energy) < sites
        assert sites >= RULE["minimum"]
        assert max(map(abs, values)) <= RULE["dominance"] * float(sum(map(abs, values))) + 1e-9
    reasons = {row[-1] for row in rows}
    assert shown
    assert {"minimum", "dominance", "complementary"} <= reasons


def test_nothing_can_be_subtracted_out_of_what_is_written(made):
    """Of each shown area: what it has besides the shown areas in it is nothing, or of enough sites."""
    lake, _, _ = made
    shown = query(
        lake,
        AREAS,
        "SELECT product, direction, start, level, municipality_name, sites, energy FROM t WHERE suppressed IS NULL",
    )
    wholes, municipalities = {}, {}
    for *table, level, name, sites, energy in shown:
        if level == "all":
            wholes[tuple(table)] = [sites, energy]
        if level == "municipality":
            municipalities[*table, name] = [sites, energy]
    for *table, level, name, sites, energy in shown:
        if level == "postal_area":
            rest = municipalities.get((*table, name)) or wholes.get(tuple(table))
            if rest:
                rest[0] -= sites
                rest[1] -= energy
    whole_municipalities = query(
        lake,
        AREAS,
        "SELECT product, direction, start, municipality_name, sites, energy FROM t WHERE suppressed IS NULL AND level = 'municipality'",
    )
    for *table, _, sites, energy in whole_municipalities:
        if rest := wholes.get(tuple(table)):
            rest[0] -= sites
            rest[1] -= energy
    rests = [*wholes.values(), *municipalities.values()]
    assert any(sites for sites, _ in rests)
    for sites, energy in rests:
        assert sites == 0 == energy or sites >= RULE["minimum"]


def test_months_are_sums_of_their_readings(made):
    lake, _, _ = made
    wanted = query(
        lake, "operational.readings",
        "SELECT date_trunc('month', local_date)::date, metering_point_id, product, contract_id, round(sum(energy)) FROM t "
        "WHERE contract_id IS NOT NULL GROUP BY ALL HAVING count(*) FILTER (status != 'MISSING') > 0",
    )  # fmt: skip
    rows = query(lake, MONTHS, "SELECT month, energy FROM t")
    assert sorted(rows) == sorted((month, energy) for month, *_, energy in wanted)
    assert rows


def test_what_is_published_stands_whatever_is_delivered_again(made, fleet):
    lake, keys, _ = made
    before = {table: paths_of(lake, table) for table in (AREAS, MONTHS)}
    assert publish(lake, keys) is None
    ingest(lake, fleet.readings, keys)
    assert publish(lake, keys) is None
    assert {table: paths_of(lake, table) for table in (AREAS, MONTHS)} == before
    assert verify_lake(open_lake(lake), load_policy(open_lake(lake).stored_policy())).violations == 0


def test_what_a_published_file_must_not_show_is_found(made, tmp_path):
    lake, _, _ = made
    plan = load_policy(open_lake(lake).stored_policy())
    [path, *_] = paths_of(lake, AREAS)
    rows, metadata = pq.read_table(path), pq.read_metadata(path).metadata
    hidden = rows["suppressed"].is_valid()
    faults = {
        "few sites": rows.set_column(7, "sites", pc.if_else(hidden, None, pa.scalar(1, pa.int64()))),
        "a sum": rows.set_column(8, "energy", rows["energy"].fill_null(0)),
        "no reason": rows.set_column(10, "suppressed", pa.nulls(len(rows), pa.string())),
        "nothing": rows,
    }
    found = {}
    for fault, changed in faults.items():
        file = tmp_path / fault / f"2026-03-28-{'0' * 24}.parquet"
        file.parent.mkdir()
        pq.write_table(changed.replace_schema_metadata(metadata), file)
        current = CurrentFile(str(file), len(rows), 0, None, "2026-03-28")
        findings = Findings(tmp_path)
        check_published(plan, findings, {AREAS: TableFiles((current,), {})}, {str(file)})
        found[fault] = findings.violations
    assert found == {"few sites": 1, "a sum": 1, "no reason": 1, "nothing": 0}
    findings = Findings(tmp_path)
    check_published(plan, findings, {AREAS: TableFiles((current, current), {})}, set())
    assert findings.violations == 1


def test_published_again_it_is_the_same_of_the_same(made):
    lake, keys, _ = made
    rows, paths = rows_of(lake, AREAS), paths_of(lake, AREAS)
    assert publish(lake, keys, again=True)
    assert rows_of(lake, AREAS).equals(rows)
    assert not set(paths_of(lake, AREAS)) & set(paths)


def test_days_are_published_as_they_come_of_age(fleet, tmp_path):
    lake, keys = fill(fleet, tmp_path)
    [(first, last)] = query(lake, "operational.readings", "SELECT min(local_date), max(local_date) FROM t")
    assert publish(lake, keys, until=first - timedelta(days=1)) is None
    publish(lake, keys, until=first)
    assert query(lake, AREAS, "SELECT DISTINCT local_date FROM t") == [(first,)]
    assert query(lake, MONTHS, "SELECT * FROM t") == []  # the month is not over
    publish(lake, keys, since=first + timedelta(days=1))
    assert query(lake, AREAS, "SELECT min(local_date), max(local_date) FROM t") == [(first, last)]


def test_a_publication_that_dies_in_its_commit_is_finished_by_the_next_run(fleet, tmp_path):
    lake, keys = fill(fleet, tmp_path)
    with (
        patch.object(journal, "_finish", side_effect=KeyboardInterrupt),
        pytest.raises((KeyboardInterrupt, RuntimeError)),
    ):
        publish(lake, keys)
    assert publish(lake, keys) is None
    assert rows_of(lake, AREAS).num_rows


def test_retention_drops_published_days_and_months(fleet, tmp_path):
    lake, keys = fill(fleet, tmp_path)
    publish(lake, keys)
    opened = open_lake(lake)
    plan = load_policy(opened.stored_policy())
    [(last,)] = query(lake, AREAS, "SELECT max(local_date) FROM t")
    with patch("os.fsync"):
        maintain(opened, plan, now=datetime.combine(last, datetime.min.time(), UTC) + timedelta(days=365 * 3 + 60))
    assert paths_of(lake, MONTHS) == []
    assert paths_of(lake, AREAS)
    assert publish(lake, keys, again=True)
    assert paths_of(lake, MONTHS) == []  # what is beyond its retention does not come back


def test_the_command_reports_the_risk(made):
    lake, keys, _ = made
    out = StringIO()
    arguments = ["publish", "--lake", lake, "--keyset", keys["keyset"], "--kek", keys["kek"], "--again", "--json"]
    with redirect_stdout(out), patch("os.fsync"):
        assert main([str(argument) for argument in arguments]) == 0
    report = json.loads(out.getvalue())
    levels = {line["level"]: line for line in report["areas"]}
    for level, line in levels.items():
        [(cells, smallest, minimum, dominance, complementary)] = query(
            lake,
            AREAS,
            f"SELECT count(*), min(sites), {', '.join(f'count(*) FILTER (suppressed = {chr(39)}{r}{chr(39)})' for r in ('minimum', 'dominance', 'complementary'))} FROM t WHERE level = '{level}'",
        )
        assert (line["cells"], line["smallest group"]) == (cells, smallest)
        assert (line["minimum"], line["dominance"], line["complementary"]) == (minimum, dominance, complementary)
    shares = {row["known"]: row for row in report["risk"] if row["dataset"] == "analytics.readings"}
    [(day, points, unique)] = query(lake, "operational.readings", UNIQUE_READINGS)
    assert {row["epoch"] for row in shares.values()} == {str(day)}
    assert {row["among"] for row in shares.values()} == {points}
    assert shares[1]["looked_at"] == points > 200
    assert shares[1]["share"] == pytest.approx(unique, abs=0.1)  # a point of each curve is drawn
    assert 0 < shares[1]["share"] <= shares[4]["share"] <= 1
    assert [line["dataset"] for line in report["months"]] == [MONTHS, "operational.months"]


def test_a_lake_of_nothing_publishes_nothing(tmp_path):
    create_lake(tmp_path / "lake", bucket_count=2)
    with pytest.raises(MeterveilError, match="nothing was ingested yet"):
        publish(tmp_path / "lake", make_keys(tmp_path), until=date(2026, 1, 1))
