"""DuckDB, as well as one can.

* Whatever holds for a point all day (site, contract, pseudonyms, its place in either order) is found once a point.
* The slots of a point's day are bits: where as many are set as there are readings, no key occurs twice. Only points
  where that fails go through ``row_number()``; the others stream.
* Ids and words are enums: they are sorted as integers, and written as the dictionaries that they are.
* HMAC-SHA-256 is two calls of the vectorised ``sha256``; the local date is found once for each start.
"""

import os

import duckdb

from benchmarks.peers.harness import STATUS_WORDS, TIME_ZONE, Job, pad_key, run_peer

#: Version 8 and variant 10 of RFC 9562, in 32 or more hex digits.
_MACROS = """
CREATE MACRO shape(h) AS (
    h[1:12] || '8' || h[14:16] || translate(h[17], '0123456789abcdef', '89ab89ab89ab89ab') || h[18:32]
)::UUID;
"""
_HMAC = "CREATE MACRO hash_{entity}(id) AS sha256('{outer}'::BLOB || unhex(sha256('{inner}'::BLOB || encode(id))));"
_POINTS = """
CREATE TABLE starts AS
SELECT start, (start AT TIME ZONE '{zone}')::DATE AS local_date
FROM (SELECT DISTINCT start FROM read_parquet({readings}));

CREATE TABLE points AS
WITH days AS (SELECT DISTINCT local_date FROM starts),
ids AS (SELECT DISTINCT metering_point_id FROM read_parquet({readings})),
occupancies AS (
    SELECT local_date, metering_point_id, customer_id, contract_id
    FROM read_parquet('{contracts}')
    JOIN days ON valid_from <= local_date AND (valid_to IS NULL OR local_date < valid_to)
    QUALIFY row_number() OVER (PARTITION BY local_date, metering_point_id ORDER BY signed_at DESC, contract_id DESC) = 1
)
SELECT metering_point_id, local_date, coalesce(direction, 'consumption') AS direction, customer_id, contract_id,
       shape(hash_metering_point(metering_point_id)) AS metering_point,
       shape(hash_usage_site(coalesce(site_id, metering_point_id))) AS site,
       shape(hash_customer(customer_id)) AS customer
FROM ids CROSS JOIN days
LEFT JOIN read_parquet('{sites}') USING (metering_point_id)
LEFT JOIN occupancies USING (metering_point_id, local_date);

CREATE TYPE point_id AS ENUM (SELECT DISTINCT metering_point_id FROM points ORDER BY ALL);
CREATE TYPE customer_id AS ENUM (SELECT DISTINCT customer_id FROM points WHERE customer_id IS NOT NULL ORDER BY ALL);
CREATE TYPE contract_id AS ENUM (SELECT DISTINCT contract_id FROM points WHERE contract_id IS NOT NULL ORDER BY ALL);
CREATE TYPE product AS ENUM (SELECT DISTINCT product FROM read_parquet({readings}) ORDER BY ALL);
CREATE TYPE direction AS ENUM ('consumption', 'production');
CREATE TYPE word AS ENUM ({words});
CREATE TABLE coded AS
SELECT metering_point_id AS id, row_number() OVER ()::INTEGER AS point, local_date,
       dense_rank() OVER (ORDER BY metering_point)::INTEGER AS place,
       metering_point_id::point_id AS metering_point_id, direction::direction AS direction,
       customer_id::customer_id AS customer_id, contract_id::contract_id AS contract_id, metering_point, site, customer
FROM points;
"""
_LATEST = """
CREATE TABLE contested AS
SELECT DISTINCT metering_point_id FROM (
    SELECT metering_point_id
    FROM read_parquet({readings})
    GROUP BY metering_point_id, product, resolution_s, epoch_us(start) // 86_400_000_000
    HAVING count(*) <> bit_count(
        bit_or(1::HUGEINT << (epoch_us(start) // (resolution_s * 1_000_000::BIGINT) % 96)::INTEGER)
    )
);
CREATE TABLE latest AS
WITH kept AS (
    FROM read_parquet({readings}) ANTI JOIN contested USING (metering_point_id)
    UNION ALL
    FROM (FROM read_parquet({readings}) SEMI JOIN contested USING (metering_point_id))
    QUALIFY row_number() OVER (
        PARTITION BY metering_point_id, product, resolution_s, start
        ORDER BY registered_at DESC, status DESC, energy DESC
    ) = 1
)
SELECT point, product::product AS product, resolution_s, start, energy,
       enum_range(NULL::word)[status + 1] AS status, registered_at
FROM kept JOIN starts USING (start) JOIN coded ON kept.metering_point_id = id AND starts.local_date = coded.local_date;
"""
_IDENTIFIED = """
COPY (
    SELECT metering_point_id, product, direction, resolution_s, local_date, start, energy, status, 0::INTEGER AS flags,
           registered_at, NULL::TIMESTAMPTZ AS rival_registered_at, NULL::TIMESTAMPTZ AS daily_rival_registered_at,
           customer_id, contract_id
    FROM latest JOIN coded USING (point)
    ORDER BY metering_point_id, product, resolution_s, start
) TO '{out}' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 1_000_000)
"""
_PSEUDONYMISED = """
COPY (
    SELECT metering_point, site, customer, product, direction, resolution_s, local_date, start, energy, status
    FROM latest JOIN coded USING (point)
    ORDER BY place, start
) TO '{out}' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 1_000_000)
"""


def work(job: Job) -> None:
    """Do the job in one in-memory database."""
    with duckdb.connect(config={"threads": os.cpu_count() or 1, "temp_directory": str(job.spill)}) as connection:
        connection.execute("SET preserve_insertion_order = false")
        connection.execute(_MACROS)
        for entity, subkey in job.subkeys.items():
            inner, outer = (_as_blob(pad) for pad in pad_key(subkey))
            connection.execute(_HMAC.format(entity=entity, inner=inner, outer=outer))
        words = ", ".join(f"'{word}'" for word in STATUS_WORDS)
        names = {"readings": job.readings, "contracts": job.contracts, "sites": job.sites}
        connection.execute(_POINTS.format(**names, zone=TIME_ZONE, words=words))
        connection.execute(_LATEST.format(**names))
        connection.execute(_IDENTIFIED.format(out=job.identified / "readings.parquet"))
        connection.execute(_PSEUDONYMISED.format(out=job.pseudonymised / "readings.parquet"))


def _as_blob(octets: bytes) -> str:
    """Write bytes as the text of a BLOB literal."""
    return "".join(f"\\x{octet:02X}" for octet in octets)


if __name__ == "__main__":
    run_peer(work)
