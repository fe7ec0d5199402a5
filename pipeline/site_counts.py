"""How many sites of the whole reference share what a dataset tells of a site, on any day; counted once a worker."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Lock

from pipeline.reference import Snapshot
from transforms.anonymity import SITE_BITS, Combinations, Contracted, Generalised, generalise, list_contracted
from transforms.buckets import bucket_of
from transforms.plan import Column, Dataset

#: Days that are kept: those that a worker's threads are at work on, and some that come again.
_KEPT_DAYS = 64


class SiteCounts:
    """Combinations of what is told of sites, with the days of contracts; opened when the first dataset asks.

    Args:
        reference: whose contracts count.
        threads: to count with.
    """

    def __init__(self, reference: Snapshot, threads: int) -> None:
        self._reference, self._threads, self._lock = reference, threads, Lock()
        self._combinations: dict[str, Combinations] = {}
        self._days: dict[tuple[str, int], Generalised] = {}

    def generalise(self, dataset: Dataset, local_date: int) -> Generalised:
        """Choose what a dataset with anonymity tells of sites on a local day (days since 1970-01-01)."""
        assert dataset.anonymity
        key = (dataset.name, local_date)
        columns = [column for name in dataset.anonymity.columns for column in dataset.columns if column.name == name]
        with self._lock:
            if dataset.name not in self._combinations:
                self._combinations[dataset.name] = self._count(columns)
            if key not in self._days:
                while len(self._days) >= _KEPT_DAYS:
                    del self._days[next(iter(self._days))]
                combinations = self._combinations[dataset.name]
                self._days[key] = generalise(combinations, columns, dataset.anonymity.k, local_date)
            return self._days[key]

    def _count(self, columns: list[Column]) -> Combinations:
        with ThreadPoolExecutor(self._threads) as pool:
            return Combinations.of(
                list(pool.map(partial(self._list, columns), range(self._reference.bucket_count or 1)))
            )

    def _list(self, columns: list[Column], bucket: int) -> Contracted:
        points, occupancies = self._reference.points(bucket), self._reference.occupancies(bucket)
        return list_contracted(points, occupancies, columns, partial(bucket_of, bucket_count=1 << SITE_BITS))
