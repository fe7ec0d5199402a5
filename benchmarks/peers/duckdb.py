"""DuckDB, the script that most would write: one step after the other, duplicates by ``row_number()``."""

import duckdb
import pyarrow as pa

from benchmarks.peers.harness import STATUS_WORDS, TIME_ZONE, Job, make_pseudonyms, run_peer

_LATEST = """
CREATE TABLE latest AS
SELECT *, (start AT TIME ZONE '{zone}')::DATE AS local_date
FROM read_parquet({readings})
QUALIFY row_number() OVER (
    PARTITION BY metering_point_id, product, resolution_s, start ORDER BY registered_at DESC, status DESC, energy DESC
) = 1
"""
_OCCUPANCIES = """
CREATE TABLE occupancies AS
SELECT day.local_date, metering_point_id, customer_id, contract_id
FROM read_parquet('{contracts}') AS contract
JOIN (SELECT DISTINCT local_date FROM latest) AS day
  ON contract.valid_from <= day.local_date AND (contract.valid_to IS NULL OR day.local_date < contract.valid_to)
QUALIFY row_number() OVER (
    PARTITION BY day.local_date, metering_point_id ORDER BY signed_at DESC, contract_id DESC
) = 1
"""
_JOINED = """
CREATE TABLE joined AS
SELECT latest.* REPLACE ({words}[latest.status + 1] AS status),
       coalesce(site_id, metering_point_id) AS site_id,
       coalesce(direction, 'consumption') AS direction,
       customer_id, contract_id
FROM latest
LEFT JOIN read_parquet('{sites}') AS site USING (metering_point_id)
LEFT JOIN occupancies USING (metering_point_id, local_date)
"""
_IDENTIFIED = """
COPY (
    SELECT metering_point_id, product, direction, resolution_s, local_date, start, energy, status, 0::INTEGER AS flags,
           registered_at, NULL::TIMESTAMPTZ AS rival_registered_at, NULL::TIMESTAMPTZ AS daily_rival_registered_at,
           customer_id, contract_id
    FROM joined
    ORDER BY metering_point_id, product, resolution_s, start
) TO '{out}' (FORMAT parquet, COMPRESSION zstd)
"""
_PSEUDONYMISED = """
COPY (
    SELECT point.pseudonym AS metering_point, site.pseudonym AS site, customer.pseudonym AS customer,
           product, direction, resolution_s, local_date, start, energy, status
    FROM joined
    JOIN metering_point_pseudonyms AS point ON metering_point_id = point.id
    JOIN usage_site_pseudonyms AS site ON site_id = site.id
    LEFT JOIN customer_pseudonyms AS customer ON customer_id = customer.id
    ORDER BY metering_point, start
) TO '{out}' (FORMAT parquet, COMPRESSION zstd)
"""
_ENTITIES = {"metering_point": "metering_point_id", "usage_site": "site_id", "customer": "customer_id"}


def work(job: Job) -> None:
    """Do the job in one in-memory database."""
    with duckdb.connect(config={"temp_directory": str(job.spill)}) as connection:
        connection.execute(_LATEST.format(zone=TIME_ZONE, readings=job.readings))
        connection.execute(_OCCUPANCIES.format(contracts=job.contracts))
        connection.execute(_JOINED.format(sites=job.sites, words=list(STATUS_WORDS)))
        for entity, column in _ENTITIES.items():
            _tabulate_pseudonyms(connection, entity, column, job.subkeys[entity])
        connection.execute(_IDENTIFIED.format(out=job.identified / "readings.parquet"))
        connection.execute(_PSEUDONYMISED.format(out=job.pseudonymised / "readings.parquet"))


def _tabulate_pseudonyms(connection: duckdb.DuckDBPyConnection, entity: str, column: str, subkey: bytes) -> None:
    """Make the pseudonym of each distinct id in Python, and a table of them."""
    found = connection.execute(f"SELECT DISTINCT {column} FROM joined WHERE {column} IS NOT NULL").fetchall()
    ids = [row[0] for row in found]
    made = pa.table({"id": ids, "pseudonym": pa.array([value.hex() for value in make_pseudonyms(subkey, ids)])})
    connection.register("made", made)
    connection.execute(f"CREATE TABLE {entity}_pseudonyms AS SELECT id, pseudonym::UUID AS pseudonym FROM made")
    connection.unregister("made")


if __name__ == "__main__":
    run_peer(work)
