"""The floor: pyarrow decodes the input and encodes both datasets as meterveil does, on two threads, nothing else.

What is encoded are the finished tables, taken from a lake that meterveil made of the same input before; reading them is
not timed. ``python -m benchmarks.peers.codec_floor SOURCE OUT LAKE``.
"""

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.peers.harness import Job, run_peer
from pipeline.parquet import encode_rows
from pipeline.policy_file import load_policy
from transforms.plan import Dataset

POLICY = Path(__file__).parents[1] / "two_datasets.yaml"
_THREADS = 2
_DATASETS = {"operational.readings": "identified", "analytics.readings": "pseudonymised"}


def work(job: Job) -> dict[str, float]:
    """Prepare the tables, then decode and encode."""
    prepared = list(_load_tables(Path(sys.argv[3])))

    def decode(path: str) -> int:
        ids = ["metering_point_id", "product"]
        return pq.read_table(path, use_threads=False, read_dictionary=ids, partitioning=None).num_rows

    def encode(number: int) -> None:
        dataset, blocks = prepared[number]
        content, _ = encode_rows(blocks, dataset, {})
        (job.out / _DATASETS[dataset.name] / f"{number:05d}.parquet").write_bytes(content)

    with ThreadPoolExecutor(_THREADS) as pool:
        started = time.perf_counter()
        decoded = list(pool.map(decode, job.readings))
        between = time.perf_counter()
        list(pool.map(encode, range(len(prepared))))
        done = time.perf_counter()
    return {"seconds": done - started, "decode_seconds": between - started, "readings": sum(decoded)}


def _load_tables(lake: Path) -> list[tuple[Dataset, list[pa.Table]]]:
    """Read every file of both datasets, in the blocks and types in which derived rows go to the encoder."""
    plan = load_policy(POLICY)
    loaded = []
    for name in _DATASETS:
        dataset = plan.datasets[name]
        words = [column.name for column in dataset.columns if pa.types.is_string(column.type)]
        for path in sorted((lake / name.replace(".", "/") / "data").rglob("*.parquet")):
            with pq.ParquetFile(path, read_dictionary=words) as file:
                groups = [file.read_row_group(number) for number in range(file.num_row_groups)]
            loaded.append((dataset, [_as_derived(table, dataset) for table in groups]))
    return loaded


def _as_derived(table: pa.Table, dataset: Dataset) -> pa.Table:
    columns = [
        table[column.name] if pa.types.is_string(column.type) else table[column.name].cast(column.type)
        for column in dataset.columns
    ]
    return pa.table([column.combine_chunks() for column in columns], names=table.column_names)


if __name__ == "__main__":
    run_peer(work)
