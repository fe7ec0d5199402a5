"""Entity datasets: a file per bucket of customers or of sites, derived from the reference and replaced with it."""

from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from itertools import islice

import pyarrow as pa

from pipeline.context import OpenRun, begin_of_run
from pipeline.load import Load
from pipeline.parquet import DataFile, read_marks, write_data_file
from pipeline.reference import Snapshot
from pipeline.table_state import CurrentFile
from pipeline.touched import list_changed_buckets
from schemas.features import BAN_CHANNELS
from schemas.views import VIEW_KINDS, VIEWS
from transforms.accounts import sum_accounts
from transforms.calendar import local_day, to_date
from transforms.derive import derive
from transforms.marketing import select_marketable
from transforms.plan import Dataset, Plan
from transforms.rows import Rows
from transforms.sites import view_sites

#: An entity is not of a day: its pseudonyms have the epoch of no date.
_UNDATED = to_date(0)
_MARKETING = "marketing"
_BANS = "marketing_ban"
_SITES = "sites"
_MONTHS_MARK = "meterveil.months"
#: Bounds of the periods that a file of sites has rows of.
_PERIODS_MARK = "meterveil.periods"


def list_stale_buckets(run: OpenRun) -> list[int]:
    """List the buckets whose entity datasets are to be derived.

    All, where the run's reference is not the lake's; or where the register of bans has gone out of date meanwhile,
    while a dataset of the view ``marketing`` still has somebody; or where that went by other months than there are now,
    or a dataset of the view ``sites`` lacks a period that has begun.
    """
    if changed := list_changed_buckets(run):
        return changed
    datasets = run.datasets(_MARKETING)
    shown = any(file.rows for dataset in datasets for file in run.current[dataset.name].values())
    outdated = shown and bool(run.reference.version) and not bans_are_current(run)
    lagging = any(file_lags(file, run.load) for file in _take_one_each(run, datasets))
    ended = any(
        read_marks(file.path).get(_PERIODS_MARK) != _join_periods(run.periods)
        for file in _take_one_each(run, run.datasets(_SITES))
    )
    return list(range(run.lake.settings.bucket_count)) if outdated or lagging or ended else []


def _take_one_each(run: OpenRun, datasets: Sequence[Dataset]) -> Iterator[CurrentFile]:
    """Take a current file of each dataset: those of all buckets are written by one run, so one tells of all."""
    return (file for dataset in datasets for file in islice(run.current[dataset.name].values(), 1))


def file_lags(file: CurrentFile, load: Load) -> bool:
    """Tell whether a file of the view ``marketing`` went by other months than its rules would go by now."""
    if not load.used:
        return False
    return read_marks(file.path).get(_MONTHS_MARK) != load.mark


def periods_lag(file: CurrentFile, today: int) -> bool:
    """Tell whether the last period of a file of the view ``sites`` has ended by a day (days since 1970-01-01)."""
    return int(read_marks(file.path).get(_PERIODS_MARK, "0").rpartition(",")[2]) <= today


def bans_are_current(run: OpenRun) -> bool:
    """Tell whether the register of bans is young enough, for every channel, on the day when the run began."""
    today = to_date(local_day(begin_of_run(run.context.run_id), run.lake.settings.time_zone))
    return bans_are_current_on(run.reference, run.plan, today)


def bans_are_current_on(reference: Snapshot, plan: Plan, today: date) -> bool:
    """Tell whether the register of bans in a reference is young enough, for every channel, on a day."""
    versions = reference.registers().get(_BANS, {}).get("versions", {})
    oldest = today - timedelta(days=plan.ban_list_days)
    return all(channel in versions and date.fromisoformat(versions[channel]) >= oldest for channel in BAN_CHANNELS)


def derive_bucket(run: OpenRun, bucket: int) -> Iterator[DataFile]:
    """Write the file of one bucket of every entity dataset."""
    label = f"{bucket:05d}"
    for view in (name for name, kind in VIEW_KINDS.items() if kind == "entity"):
        datasets = run.datasets(view)
        if view == _SITES:
            yield from (_derive_sites(run, dataset, bucket) for dataset in datasets)
            continue
        if not datasets:
            continue
        rows = Rows({name: _as_array(column) for name, column in _view(run, view, bucket).items()})
        for dataset in datasets:
            blocks = derive(dataset, rows, run.subkeys(dataset, _UNDATED))
            path = run.new_data_path(dataset, label)
            footer = run.footer(dataset, run.reference.version, _UNDATED)
            if view == _MARKETING and run.load.used:
                footer[_MONTHS_MARK] = run.load.mark
            yield write_data_file(blocks, dataset, path, footer)


def _derive_sites(run: OpenRun, dataset: Dataset, bucket: int) -> DataFile:
    """Write a bucket of sites: period by period, each under the pseudonyms and as coarsely as of that time."""
    stays, path = run.reference.stays(bucket), run.new_data_path(dataset, f"{bucket:05d}")
    footer = run.footer(dataset, run.reference.version, _UNDATED) | {_PERIODS_MARK: _join_periods(run.periods)}

    def make_blocks() -> Iterator[pa.Table]:
        for period, columns in enumerate(view_sites(stays, run.periods)):
            kept = slice(0) if run.is_beyond(dataset.name, run.periods[period + 1] - 1) else slice(None)
            rows = Rows({name: values[kept] for name, values in columns.items()})
            told = run.sites_by_period.generalise(dataset, period) if dataset.anonymity else None
            yield from derive(dataset, rows, run.subkeys(dataset, to_date(run.periods[period])), told)

    return write_data_file(make_blocks(), dataset, path, footer)


def _join_periods(bounds: Sequence[int]) -> str:
    return ",".join(map(str, bounds))


def _view(run: OpenRun, view: str, bucket: int) -> dict[str, pa.ChunkedArray]:
    """Make a view of a bucket of customers."""
    reference = run.reference
    customers = reference.customers(bucket)
    match view:
        case "accounts":
            facts = (reference.facts(register, bucket) for register in ("payment", "credit_register"))
            rows = sum_accounts(customers, *facts)
        case "marketing":
            current = bans_are_current(run)
            rows = view_marketing(reference, run.plan, bucket, run.load, bans_current=current)
        case _:
            rows = customers
    return {name: rows[name] for name in VIEWS[view]}


def view_marketing(reference: Snapshot, plan: Plan, bucket: int, load: Load, *, bans_current: bool) -> pa.Table:
    """Make the view ``marketing`` of a bucket of customers, in their order."""
    named = {name: reference.facts(name, bucket) for name in ("consent", _BANS, "campaign", "payment")}
    customers, features = reference.customers(bucket), load.of_bucket(bucket)
    return select_marketable(customers, named, plan.target_groups, features, bans_current=bans_current)


def _as_array(column: pa.ChunkedArray) -> pa.Array:
    combined = column.combine_chunks()
    return combined if isinstance(combined, pa.Array) else pa.concat_arrays(combined.chunks)
