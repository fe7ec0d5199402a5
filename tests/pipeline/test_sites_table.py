"""Sites under the pseudonyms of their readings: every one is there, k share what is told, and it stays in step."""

from datetime import UTC, date, datetime

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml
from privacy_support import make_fleet
from whole_job import assert_same_rows, ingest, make_keys, query

from pipeline import context
from pipeline.errors import MeterveilError
from pipeline.lake import open_lake
from pipeline.policy_file import DEFAULT_POLICY, load_policy
from pipeline.verify import verify_lake

TOLD = ("heating", "fuse_band", "building_type", "postal_area")
SHARED = f"""
    SELECT valid_from, {", ".join(TOLD)}, count(DISTINCT site) AS sites FROM t
    WHERE coalesce({", ".join(TOLD)}) IS NOT NULL GROUP BY ALL
"""
TABLE = "analytics.sites"


def make_policy(path, **changes):
    document = yaml.safe_load(DEFAULT_POLICY.read_text(encoding="utf-8"))
    document["datasets"][TABLE].update(changes)
    path.write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    return make_fleet(tmp_path_factory.mktemp("fleet"), points=600, days=2)


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    return make_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def lake(fleet, keys, tmp_path_factory):
    lake = tmp_path_factory.mktemp("lake") / "lake"
    ingest(lake, fleet.readings, keys, reference=fleet.folder / "fleet" / "reference", buckets=4)
    return lake


def count_sites(reference) -> dict[int, int]:
    """Count the sites of each year that somebody had a contract at, from the feeds."""
    sites, contracts = (pq.read_table(reference / f"{name}.parquet").to_pylist() for name in ("sites", "contracts"))
    site_of = {row["metering_point_id"]: row["site_id"] for row in sites}
    years: dict[int, set[str]] = {}
    for row in contracts:
        last = date.max.year if row["valid_to"] is None else (row["valid_to"] - date.resolution).year
        for year in range(row["valid_from"].year, min(last, datetime.now(UTC).year) + 1):
            if row["metering_point_id"] in site_of:
                years.setdefault(year, set()).add(site_of[row["metering_point_id"]])
    return {year: len(found) for year, found in years.items()}


def test_every_site_has_one_row_in_each_year_of_a_contract(lake, fleet):
    expected = count_sites(fleet.folder / "fleet" / "reference")
    found = query(lake, TABLE, "SELECT year(valid_from), count(*), count(DISTINCT site) FROM t GROUP BY 1 ORDER BY 1")
    assert len(found) >= 2
    assert found == [(year, expected[year], expected[year]) for year, *_ in found]
    assert found[-1][0] == datetime.now(UTC).year


def test_readings_join_to_what_their_site_is_like(lake):
    told = set(query(lake, TABLE, "SELECT site, year(valid_from) FROM t"))
    sql = "SELECT DISTINCT site, year(local_date) FROM t WHERE customer IS NOT NULL"
    contracted = set(query(lake, "analytics.readings", sql))
    assert len(contracted) > 300
    assert contracted <= told


@pytest.mark.parametrize("k", [5, 12])
def test_k_sites_share_whatever_is_told_in_a_year(fleet, keys, tmp_path, k):
    policy = make_policy(tmp_path / "policy.yaml", anonymity={"k": k, "columns": list(TOLD)})
    reference = fleet.folder / "fleet" / "reference"
    ingest(tmp_path / "lake", [], keys, reference=reference, buckets=4, policy=policy)
    shared = query(tmp_path / "lake", TABLE, SHARED)
    assert min(sites for *_, sites in shared) >= k
    assert {len(area) if area else 0 for *_, area, _ in shared} > {0}  # some are told where they are, some are not


def test_other_attributes_come_with_the_next_reference_as_if_they_had_always_been(fleet, keys, tmp_path):
    reference, changed = fleet.folder / "fleet" / "reference", tmp_path / "reference"
    changed.mkdir()
    for path in reference.iterdir():
        (changed / path.name).write_bytes(path.read_bytes())
    sites = pq.read_table(changed / "sites.parquet")
    heating = pc.if_else(pc.equal(sites["heating"], "district"), "electric", sites["heating"])
    pq.write_table(sites.set_column(sites.column_names.index("heating"), "heating", heating), changed / "sites.parquet")
    ingest(tmp_path / "lake", [], keys, reference=reference, buckets=4)
    before = query(tmp_path / "lake", TABLE, "SELECT heating, count(*) FROM t GROUP BY 1 ORDER BY 1")
    ingest(tmp_path / "lake", [], keys, reference=changed)
    ingest(tmp_path / "clean", [], keys, reference=changed, buckets=4)
    assert query(tmp_path / "lake", TABLE, "SELECT heating, count(*) FROM t GROUP BY 1 ORDER BY 1") != before
    assert_same_rows(tmp_path / "lake", tmp_path / "clean", [TABLE])


def test_a_year_that_begins_is_noticed_and_comes_with_the_next_run(fleet, keys, tmp_path, monkeypatch):
    lake = tmp_path / "lake"
    with monkeypatch.context() as past:
        begin = context.begin_of_run
        past.setattr(context, "begin_of_run", lambda run_id: begin(run_id).replace(year=begin(run_id).year - 1, day=1))
        ingest(lake, [], keys, reference=fleet.folder / "fleet" / "reference", buckets=4)
    newest = "SELECT max(year(valid_from)) FROM t"
    year = datetime.now(UTC).year
    assert query(lake, TABLE, newest) == [(year - 1,)]
    assert any("a year has begun" in note for note in notes_on(lake))
    ingest(lake, [], keys)
    assert query(lake, TABLE, newest) == [(year,)]
    assert notes_on(lake) == []


def notes_on(lake) -> list[str]:
    opened = open_lake(lake)
    checks = verify_lake(opened, load_policy(opened.stored_policy()))
    return [problem for check in checks for _, problem, _ in check.places]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"retention": None}, "sites have a row for every year that is kept"),
        ({"epoch": "month"}, "rows of sites are of years"),
        ({"anonymity": None}, "together may single people out"),
        ({"anonymity": {"k": 5, "columns": ["heating"]}}, "tell more of a site"),
    ],
)
def test_a_policy_that_tells_too_much_of_sites_is_refused(tmp_path, changes, words):
    document = yaml.safe_load(DEFAULT_POLICY.read_text(encoding="utf-8"))
    for name, value in changes.items():
        if value is None:
            del document["datasets"][TABLE][name]
        else:
            document["datasets"][TABLE][name] = value
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump(document, allow_unicode=True), encoding="utf-8")
    with pytest.raises(MeterveilError, match=words):
        load_policy(tmp_path / "policy.yaml")


def test_pseudonyms_of_two_years_are_others(lake):
    assert query(lake, TABLE, "SELECT count(*) FROM (SELECT site FROM t GROUP BY 1 HAVING count(*) > 1)") == [(0,)]
