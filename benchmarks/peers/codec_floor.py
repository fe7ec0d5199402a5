"""The floor: pyarrow decodes the input and encodes both datasets, same columns, on two threads, nothing else.

What is encoded are the finished tables, taken from a lake that meterveil made of the same input before. A few files are
held at a time, and reading them is not timed. ``python -m benchmarks.peers.codec_floor SOURCE OUT LAKE``.
"""

import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.peers.harness import Job, run_peer
from pipeline.policy_file import load_policy
from transforms.plan import Dataset

POLICY = Path(__file__).parents[1] / "two_datasets.yaml"
_THREADS = 2
#: Files of the lake in memory at a time: of one dataset, so that both threads have as much to do.
_FILES_AT_ONCE = 2 * _THREADS
_DATASETS = {"operational.readings": "identified", "analytics.readings": "pseudonymised"}


def work(job: Job) -> dict[str, float]:
    """Decode, then encode; the seconds of both."""

    def decode(path: str) -> int:
        ids = ["metering_point_id", "product"]
        return pq.read_table(path, use_threads=False, read_dictionary=ids, partitioning=None).num_rows

    def encode(prepared: tuple[Path, Dataset, list[pa.Table]]) -> None:
        path, dataset, blocks = prepared
        path.write_bytes(_encode(blocks, dataset))

    with ThreadPoolExecutor(_THREADS) as pool:
        started = time.perf_counter()
        decoded = list(pool.map(decode, job.readings))
        decoding, encoding = time.perf_counter() - started, 0.0
        for some in _load_tables(Path(sys.argv[3]), job):
            started = time.perf_counter()
            list(pool.map(encode, some))
            encoding += time.perf_counter() - started
    return {"seconds": decoding + encoding, "decode_seconds": decoding, "readings": sum(decoded)}


def _encode(blocks: list[pa.Table], dataset: Dataset) -> memoryview:
    """Let pyarrow encode blocks in the settings that it is fastest in: dictionaries for what repeats."""
    repeating = [c.name for c in dataset.columns if pa.types.is_string(c.type) or pa.types.is_decimal(c.type)]
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink,
        blocks[0].schema,
        compression="zstd",
        use_dictionary=repeating,
        write_statistics=["local_date"],
        store_schema=False,
        store_decimal_as_integer=True,
    ) as writer:
        for block in blocks:
            writer.write_table(block)
    return memoryview(sink.getvalue())


def _load_tables(lake: Path, job: Job) -> Iterator[list[tuple[Path, Dataset, list[pa.Table]]]]:
    """Read some files of a dataset at a time, in the blocks and types in which derived rows go to the encoder."""
    plan = load_policy(POLICY)
    for name, folder in _DATASETS.items():
        dataset = plan.datasets[name]
        paths = sorted((lake / name.replace(".", "/") / "data").rglob("*.parquet"))
        numbered = [(path, job.out / folder / f"{number:05d}.parquet") for number, path in enumerate(paths)]
        for first in range(0, len(numbered), _FILES_AT_ONCE):
            some = numbered[first : first + _FILES_AT_ONCE]
            yield [(out, dataset, _load_table(path, dataset)) for path, out in some]


def _load_table(path: Path, dataset: Dataset) -> list[pa.Table]:
    words = [column.name for column in dataset.columns if pa.types.is_string(column.type)]
    with pq.ParquetFile(path, read_dictionary=words) as file:
        groups = [file.read_row_group(number) for number in range(file.num_row_groups)]
    return [_as_derived(table, dataset) for table in groups]


def _as_derived(table: pa.Table, dataset: Dataset) -> pa.Table:
    columns = [
        table[column.name] if pa.types.is_string(column.type) else table[column.name].cast(column.type)
        for column in dataset.columns
    ]
    return pa.table([column.combine_chunks() for column in columns], names=table.column_names)


if __name__ == "__main__":
    run_peer(work)
