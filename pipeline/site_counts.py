"""How many sites of the whole reference share what a dataset tells of a site, at any time; counted once a worker."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Lock

from pipeline.reference import Snapshot
from transforms.anonymity import SITE_BITS, Combinations, Contracted, Generalised, generalise, list_contracted
from transforms.buckets import bucket_of
from transforms.plan import Column, Dataset
from transforms.sites import list_stays

ListBucket = Callable[[Sequence[Column], int], Contracted]
number_sites = partial(bucket_of, bucket_count=1 << SITE_BITS)

#: Times that are kept: those that a worker's threads are at work on, and some that come again.
_KEPT_TIMES = 64


class SiteCounts:
    """Combinations of what is told of sites, with the times of contracts; opened when the first dataset asks.

    Args:
        list_bucket: lists the contracts of a bucket, by the columns of a dataset.
        bucket_count: how many buckets there are.
        threads: to count with.
    """

    def __init__(self, list_bucket: ListBucket, bucket_count: int, threads: int) -> None:
        self._list, self._bucket_count, self._threads, self._lock = list_bucket, bucket_count, threads, Lock()
        self._combinations: dict[str, Combinations] = {}
        self._times: dict[tuple[str, int], Generalised] = {}

    def generalise(self, dataset: Dataset, time: int) -> Generalised:
        """Choose what a dataset with anonymity tells of sites at a time: a day, or whatever contracts are listed by."""
        assert dataset.anonymity
        key = (dataset.name, time)
        columns = [column for name in dataset.anonymity.columns for column in dataset.columns if column.name == name]
        with self._lock:
            if dataset.name not in self._combinations:
                self._combinations[dataset.name] = self._count(columns)
            if key not in self._times:
                while len(self._times) >= _KEPT_TIMES:
                    del self._times[next(iter(self._times))]
                combinations = self._combinations[dataset.name]
                self._times[key] = generalise(combinations, columns, dataset.anonymity.k, time)
            return self._times[key]

    def _count(self, columns: list[Column]) -> Combinations:
        with ThreadPoolExecutor(self._threads) as pool:
            return Combinations.of(list(pool.map(partial(self._list, columns), range(self._bucket_count))))


def count_by_day(reference: Snapshot, threads: int) -> SiteCounts:
    """Count the sites of a reference by local day (days since 1970-01-01)."""

    def list_bucket(columns: Sequence[Column], bucket: int) -> Contracted:
        return list_contracted(reference.points(bucket), reference.occupancies(bucket), columns, number_sites)

    return SiteCounts(list_bucket, reference.bucket_count or 1, threads)


def count_by_period(reference: Snapshot, bounds: Sequence[int], threads: int) -> SiteCounts:
    """Count the sites of a reference by period: the place of one among those of ``transforms.sites.cut_periods``."""

    def list_bucket(columns: Sequence[Column], bucket: int) -> Contracted:
        return list_stays(reference.stays(bucket), columns, number_sites, bounds)

    return SiteCounts(list_bucket, reference.bucket_count or 1, threads)
