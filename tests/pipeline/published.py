"""A lake that is ready to publish, and what its readings say of every site: what tests of publications share."""

from copy import deepcopy
from unittest.mock import patch

import duckdb
import yaml
from whole_job import ingest, make_keys, paths_of

from pipeline.begin import RunRequest
from pipeline.policy_file import DEFAULT_POLICY
from pipeline.publish import PublishRequest, run_publish

AREAS = "analytics.area_hourly"
RULE = {"minimum": 4, "dominance": 0.5}
#: Of every site, the energy of every hour, from the readings and the reference alone.
SITE_HOURS = """
    SELECT municipality, postal_code, product, direction, date_trunc('hour', start) AS start, site_id,
        sum(energy) FILTER (status != 'MISSING') AS energy
    FROM t JOIN (SELECT metering_point_id, site_id, municipality, postal_code FROM sites) USING (metering_point_id)
    WHERE resolution_s <= 3600 AND municipality IS NOT NULL AND postal_code IS NOT NULL
    GROUP BY ALL HAVING count(*) FILTER (status != 'MISSING') > 0
"""


def publish(lake, keys, **options):
    with patch("os.fsync"):
        return run_publish(PublishRequest(lake, RunRequest(**keys, threads=2), **options))


def fill(fleet, folder, rules=None):
    """Ingest by the default policy, with sums over areas by other rules: dataset to rule."""
    keys = make_keys(folder)
    document = yaml.safe_load(DEFAULT_POLICY.read_text(encoding="utf-8"))
    like = document["datasets"].pop(AREAS)
    for name, rule in (rules or {AREAS: RULE}).items():
        document["datasets"][name] = deepcopy(like) | {"disclosure": rule}
    policy = folder / "policy.yaml"
    policy.write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), encoding="utf-8")
    reference = fleet.folder / "fleet" / "reference"
    ingest(folder / "lake", fleet.readings, keys, policy=policy, reference=reference, buckets=4)
    return folder / "lake", keys


def site_hours(lake, fleet):
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        paths = paths_of(lake, "operational.readings")
        connection.from_parquet(paths, hive_partitioning=False).create_view("t")
        sites = next((fleet.folder / "fleet" / "reference").glob("sites.*"))
        connection.execute(f"CREATE VIEW sites AS SELECT * FROM '{sites}'")
        return connection.execute(SITE_HOURS).fetchall()
