"""PySpark, ``local[*]`` in one JVM, DataFrames only: no row ever comes to Python.

The JVM's start is told apart (``session_seconds``) and not counted.
"""

import os
import time

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F  # noqa: N812 - the name that every Spark script gives it

from benchmarks.peers.harness import STATUS_WORDS, TIME_ZONE, Job, pad_key, run_peer

_KEY = ("metering_point_id", "product", "resolution_s", "start")
_MEMORY = "4g"


def work(job: Job) -> dict[str, float]:
    """Start Spark, do the job, and tell the seconds of each."""
    started = time.perf_counter()
    spark = _start_spark(job)
    ready = time.perf_counter()
    _write_datasets(spark, job)
    done = time.perf_counter()
    _stop_spark(spark)
    return {"seconds": done - ready, "session_seconds": ready - started}


def _start_spark(job: Job) -> SparkSession:
    cores = os.cpu_count() or 1
    return (
        SparkSession.builder.master(f"local[{cores}]")
        .config("spark.driver.memory", _MEMORY)
        .config("spark.ui.enabled", "false")
        .config("spark.local.dir", str(job.spill))
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.log.level", "ERROR")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.shuffle.partitions", str(2 * cores))
        .config("spark.sql.parquet.compression.codec", "zstd")
        .config("spark.sql.parquet.outputTimestampType", "TIMESTAMP_MICROS")
        .getOrCreate()
    )


def _stop_spark(spark: SparkSession) -> None:
    """Wait for the JVM to end, so that its processor time is counted as this process's own."""
    gateway = spark.sparkContext._gateway  # noqa: SLF001 - there is no other way to its process
    spark.stop()
    gateway.shutdown()
    gateway.proc.stdin.close()
    gateway.proc.wait()


def _write_datasets(spark: SparkSession, job: Job) -> None:
    by_time = Window.partitionBy(*_KEY).orderBy(*(F.desc(name) for name in ("registered_at", "status", "energy")))
    latest = (
        spark.read.parquet(*job.readings)
        .withColumn("turn", F.row_number().over(by_time))
        .where("turn = 1")
        .withColumn("local_date", _find_local_date())
        .withColumn("status", F.array(*map(F.lit, STATUS_WORDS))[F.col("status").cast("int")])
        .drop("turn")
    )
    points = _describe_points(spark, job)
    joined = (
        latest.join(F.broadcast(points), "metering_point_id", "left")
        .join(F.broadcast(_find_occupancies(spark, job)), ["metering_point_id", "local_date"], "left")
        .withColumn("site_id", F.coalesce("site_id", "metering_point_id"))
        .withColumn("direction", F.coalesce("direction", F.lit("consumption")))
    )
    never = F.lit(None).cast("timestamp")
    identified = joined.select(
        *("metering_point_id", "product", "direction", "resolution_s", "local_date", "start", "energy", "status"),
        F.lit(0).alias("flags"),
        "registered_at",
        never.alias("rival_registered_at"),
        never.alias("daily_rival_registered_at"),
        *("customer_id", "contract_id"),
    )
    # Sorted within each file, as our own files are.
    _write(identified.sortWithinPartitions("metering_point_id", "product", "resolution_s", "start"), job.identified)
    pseudonymised = joined.select(
        *("metering_point", "site", "customer", "product", "direction"),
        *("resolution_s", "local_date", "start", "energy", "status"),
    )
    _write(pseudonymised.sortWithinPartitions("metering_point", "start"), job.pseudonymised)


def _write(rows: DataFrame, folder: os.PathLike[str]) -> None:
    rows.write.mode("overwrite").parquet(str(folder))


def _describe_points(spark: SparkSession, job: Job) -> DataFrame:
    sites = spark.read.parquet(job.sites).select("metering_point_id", "site_id", "direction")
    return sites.withColumn("metering_point", _veil("metering_point_id", job.subkeys["metering_point"])).withColumn(
        "site", _veil("site_id", job.subkeys["usage_site"])
    )


def _find_occupancies(spark: SparkSession, job: Job) -> DataFrame:
    days = spark.read.parquet(*job.readings).select("start").distinct().select(_find_local_date()).distinct()
    covers = F.expr("valid_from <= local_date AND (valid_to IS NULL OR local_date < valid_to)")
    by_signature = Window.partitionBy("metering_point_id", "local_date").orderBy(
        F.desc("signed_at"), F.desc("contract_id")
    )
    return (
        spark.read.parquet(job.contracts)
        .join(F.broadcast(days), covers)
        .withColumn("turn", F.row_number().over(by_signature))
        .where("turn = 1")
        .select("metering_point_id", "local_date", "customer_id", "contract_id")
        .withColumn("customer", _veil("customer_id", job.subkeys["customer"]))
    )


def _find_local_date() -> Column:
    return F.to_date(F.from_utc_timestamp("start", TIME_ZONE)).alias("local_date")


def _veil(name: str, subkey: bytes) -> Column:
    """Make pseudonyms: HMAC-SHA-256 as two calls of ``sha2``, with version 8 and variant 10 of RFC 9562."""
    inner, outer = (F.lit(pad) for pad in pad_key(subkey))
    tag = F.sha2(F.concat(outer, F.unhex(F.sha2(F.concat(inner, F.encode(name, "UTF-8")), 256))), 256)
    variant = F.translate(F.substring(tag, 17, 1), "0123456789abcdef", "89ab89ab89ab89ab")
    return F.unhex(
        F.concat(F.substring(tag, 1, 12), F.lit("8"), F.substring(tag, 14, 3), variant, F.substring(tag, 18, 15))
    )


if __name__ == "__main__":
    run_peer(work)
