"""Polars, lazy and streaming, as well as one can.

Ids stay the categories that they are in the files; what holds for a point is found once a point; sorts are narrow and
by integers, and the rest is joined afterwards, in that order. Duplicates are looked for by point: where a point has as
many distinct starts as readings there are none. Polars has no SHA-256, so pseudonyms are made in Python, once an id.
"""

from pathlib import Path

import polars as pl

from benchmarks.peers.harness import STATUS_WORDS, TIME_ZONE, Job, make_pseudonyms, run_peer

_KEY = ("metering_point_id", "product", "resolution_s", "start")
_DIRECTION = pl.Enum(["consumption", "production"])
_STATUS = pl.Enum(STATUS_WORDS)
_TIME = pl.Datetime("us", "UTC")


def work(job: Job) -> None:
    """Settle the duplicates into memory, then write each dataset from there."""
    readings = pl.scan_parquet(job.readings)
    points, starts = _make_points(job, readings)
    places = points.lazy().select("metering_point_id", "local_date", "point", "id_place", "pseudonym_place")
    latest = (
        _settle(readings)
        .join(starts.lazy(), on="start")
        .join(places, on=["metering_point_id", "local_date"])
        .drop("metering_point_id", "local_date")
        .with_columns(pl.col("status").cast(pl.UInt8).cat.to(_STATUS))
        .collect(engine="streaming")
    ).lazy()
    _write(
        latest.drop("pseudonym_place").sort("id_place", pl.col("product").cast(pl.String), "resolution_s", "start"),
        points,
        [
            *("metering_point_id", "product", "direction", "resolution_s", "local_date", "start", "energy", "status"),
            pl.lit(0, pl.Int32).alias("flags"),
            "registered_at",
            pl.lit(None, _TIME).alias("rival_registered_at"),
            pl.lit(None, _TIME).alias("daily_rival_registered_at"),
            *("customer_id", "contract_id"),
        ],
        job.identified,
    )
    _write(
        latest.drop("id_place", "registered_at").sort("pseudonym_place", "start"),
        points,
        [
            *("metering_point", "site", "customer", "product", "direction"),
            *("resolution_s", "local_date", "start", "energy", "status"),
        ],
        job.pseudonymised,
    )


def _write(rows: pl.LazyFrame, points: pl.DataFrame, columns: list[str | pl.Expr], folder: Path) -> None:
    """Join what holds for a point to sorted rows, and write them in their order."""
    (
        rows.join(points.lazy(), on="point", how="left", maintain_order="left")
        .select(columns)
        .sink_parquet(folder / "readings.parquet", compression="zstd", statistics=False, engine="streaming")
    )


def _make_points(job: Job, readings: pl.LazyFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Find what holds for a point on a local date, and the local date of each start."""
    ids, starts = pl.collect_all(
        [readings.select("metering_point_id").unique(), readings.select("start").unique()], engine="streaming"
    )
    starts = starts.with_columns(local_date=pl.col("start").dt.convert_time_zone(TIME_ZONE).dt.date())
    days = starts.lazy().select("local_date").unique()
    occupancies = (
        pl.scan_parquet(job.contracts)
        .with_columns(pl.col("metering_point_id", "customer_id", "contract_id").cast(pl.Categorical))
        .join(days, how="cross")
        .filter(
            pl.col("valid_from") <= pl.col("local_date"),
            pl.col("valid_to").is_null() | (pl.col("local_date") < pl.col("valid_to")),
        )
        .sort("signed_at", pl.col("contract_id").cast(pl.String))
        .unique(["metering_point_id", "local_date"], keep="last", maintain_order=True)
        .select("metering_point_id", "local_date", "customer_id", "contract_id")
    )
    points = (
        ids.lazy()
        .join(days, how="cross")
        .join(
            pl.scan_parquet(job.sites).select(pl.col("metering_point_id").cast(pl.Categorical), "site_id", "direction"),
            on="metering_point_id",
            how="left",
        )
        .join(occupancies, on=["metering_point_id", "local_date"], how="left")
        .with_columns(
            pl.col("site_id").fill_null(pl.col("metering_point_id").cast(pl.String)),
            pl.col("direction").fill_null("consumption").cast(_DIRECTION),
        )
        .collect()
    )
    return (
        points.with_columns(
            _veil(points["metering_point_id"].cast(pl.String), job.subkeys["metering_point"]).alias("metering_point"),
            _veil(points["site_id"], job.subkeys["usage_site"]).alias("site"),
            _veil(points["customer_id"].cast(pl.String), job.subkeys["customer"]).alias("customer"),
        ).with_columns(
            pl.int_range(pl.len(), dtype=pl.UInt32).alias("point"),
            pl.col("metering_point_id").cast(pl.String).rank("dense").cast(pl.UInt32).alias("id_place"),
            pl.col("metering_point").rank("dense").cast(pl.UInt32).alias("pseudonym_place"),
        ),
        starts,
    )


def _veil(ids: pl.Series, subkey: bytes) -> pl.Series:
    """Make pseudonyms, once for each distinct id; null stays null."""
    distinct = ids.drop_nulls().unique()
    made = pl.Series(make_pseudonyms(subkey, distinct), dtype=pl.Binary)
    return ids.replace_strict(distinct, made, default=None, return_dtype=pl.Binary)


def _settle(readings: pl.LazyFrame) -> pl.LazyFrame:
    """Keep the latest registration of each key; only points with a key that occurs twice are looked at closely."""
    contested = (
        readings.group_by("metering_point_id", "product", "resolution_s")
        .agg(twice=pl.len() != pl.col("start").n_unique())
        .filter("twice")
        .select("metering_point_id")
        .unique()
        .collect(engine="streaming")
        .lazy()
    )
    resolved = (
        readings.join(contested, on="metering_point_id", how="semi")
        .sort("registered_at", "status", "energy", descending=True)
        .unique(_KEY, keep="first", maintain_order=True)
    )
    return pl.concat([readings.join(contested, on="metering_point_id", how="anti"), resolved])


if __name__ == "__main__":
    run_peer(work)
