"""What a run works with: named on the launcher, opened on the worker. No secret and no table is ever pickled."""

import secrets
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from functools import cached_property, lru_cache
from pathlib import Path

from pipeline.erasure import Erasures, digest_tombstones, read_tombstones
from pipeline.horizons import read_horizons
from pipeline.keys import SECRET_ACCESS, Key, Keyset, open_keyset
from pipeline.lake import Lake, open_lake
from pipeline.load import Load
from pipeline.machine import check_boot
from pipeline.policy_file import load_policy
from pipeline.reference import NO_REFERENCE, Snapshot, open_snapshot
from pipeline.site_counts import SiteCounts, count_by_day, count_by_period
from pipeline.sources.base import ReadOptions
from pipeline.stores import ObjectPath, locate
from pipeline.table_state import CurrentFile
from transforms.calendar import LocalCalendar, local_calendar, local_day, to_date
from transforms.plan import Dataset, Plan, epoch_label
from transforms.policy import STATE_TABLE
from transforms.pseudonym import derive_subkey
from transforms.sites import cut_periods

#: The table of runs. Every commit of a run changes it, so its snapshots tell what the lake was made with.
RUNS = "operational.runs"
_BEGIN = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True, slots=True)
class RunContext:
    """Everything a worker needs to open what it works with; holds names, no content.

    Attributes:
        run_id: name of the run, in snapshots and run records.
        lake: root of the lake.
        policy: path of the policy file.
        keyset: path of the keyset.
        kek: where the key-encryption key comes from (``pipeline.wrapping``).
        reference: version of the reference snapshot; empty for none.
        snapshots: table name and Iceberg snapshot id that this run builds on, for every table that has one.
        horizons: table name and first local date that it still has (``pipeline.horizons``), for those that have one.
        tombstones: names the state of what was erased (``pipeline.erasure``); empty for nothing.
        read: how to read inputs where the files don't say.
        options: the same as it was given, for the ledger of inputs (``pipeline.ledger``).
        threads: threads a worker works with.
        remade: of a rebuild, the tables that it makes anew; None of any other run.
        boot: of the machine that all workers must be on, since the lake's catalog is there; empty for any.
    """

    run_id: str
    lake: str
    policy: str
    keyset: str
    kek: str
    reference: str
    snapshots: tuple[tuple[str, int], ...]
    horizons: tuple[tuple[str, int], ...]
    tombstones: str
    read: ReadOptions
    options: str
    threads: int
    remade: tuple[str, ...] | None = None
    boot: str = ""

    @property
    def mark(self) -> str:
        """What the names of all data files of the run begin with, after their label."""
        return mark_of(self.run_id)


class OpenRun:
    """A run's context, opened; one a process."""

    def __init__(self, context: RunContext) -> None:
        check_boot(context.boot)
        self.context = context
        self.lake: Lake = open_lake(context.lake)
        self.policy_text = locate(context.policy).read_text(encoding="utf-8")
        self.plan: Plan = load_policy(locate(context.policy))
        self.calendar: LocalCalendar = local_calendar(self.lake.settings.time_zone)

    def refreshed(self) -> "OpenRun":
        """Open the run on the tables as they are now; this very one where they are as they were.

        If another run has changed the lake's reference, this one goes over to it, unless it brings one of its own.
        """
        now = OpenRun(
            replace(
                self.context,
                snapshots=current_snapshots(self.lake, self.plan, self.context.remade or ()),
                horizons=current_horizons(self.lake),
                tombstones=digest_tombstones(self.lake),
            )
        )
        if now.context == self.context:
            return self
        if self.reference.version != self.lake_reference.version:
            return now
        return OpenRun(replace(now.context, reference=now.lake_reference.version))

    @property
    def staging(self) -> Path | ObjectPath:
        """The folder of frames on their way."""
        return staging_folder(self.lake, self.context.run_id)

    @cached_property
    def keyset(self) -> Keyset:
        """The keyset, unwrapped."""
        return open_keyset(locate(self.context.keyset), self.context.kek)

    @cached_property
    def reference(self) -> Snapshot:
        """The reference snapshot of this run."""
        return _open_reference(self.lake, self.context.reference)

    @cached_property
    def sites(self) -> SiteCounts:
        """How many sites share what is told of a site on a day."""
        return count_by_day(self.reference, self.context.threads)

    @cached_property
    def periods(self) -> tuple[int, ...]:
        """Bounds of the periods that datasets of sites have rows of, in days since 1970-01-01; empty without any."""
        kept = [dataset.retention_days or 0 for dataset in self.datasets("sites")]
        today = to_date(local_day(begin_of_run(self.context.run_id), self.lake.settings.time_zone))
        return cut_periods(today, max(kept), [key.info.active_from for key in self.keyset.keys]) if kept else ()

    @cached_property
    def sites_by_period(self) -> SiteCounts:
        """How many sites share what is told of a site in a period."""
        return count_by_period(self.reference, self.periods, self.context.threads)

    @cached_property
    def load(self) -> Load:
        """Load features of customers, by the months that this run builds on."""
        return Load(self.plan, self.current, self.lake.settings.bucket_count, self.context.threads)

    @cached_property
    def lake_reference(self) -> Snapshot:
        """The reference snapshot by which the tables stand that this run builds on."""
        snapshot = dict(self.context.snapshots).get(RUNS)
        said = self.lake.state(RUNS).summary(snapshot) if snapshot else {}
        return _open_reference(self.lake, said.get("meterveil.reference", ""))

    @cached_property
    def current(self) -> dict[str, dict[str, CurrentFile]]:
        """Current data files of every table by label, in the snapshots that this run builds on."""
        snapshots = dict(self.context.snapshots)
        return {
            name: {file.label: file for file in self.lake.state(name).files(snapshots[name])}
            if name in snapshots
            else {}
            for name in self.plan.datasets
        }

    @cached_property
    def horizons(self) -> dict[str, int]:
        """Each dataset's first local date, in days since 1970-01-01, where it has one."""
        return dict(self.context.horizons)

    def is_beyond(self, dataset_name: str, local_date: int) -> bool:
        """Tell whether a local date (days since 1970-01-01) is one that a dataset no longer keeps."""
        return local_date < self.horizons.get(dataset_name, local_date)

    @cached_property
    def erasures(self) -> Erasures:
        """What was erased, as the lake knows it by now."""
        return Erasures(read_tombstones(self.lake), self.keyset)

    def datasets(self, view: str) -> list[Dataset]:
        """List the datasets of the policy that select from a view."""
        return [dataset for dataset in self.plan.datasets.values() if dataset.view == view]

    def new_data_path(self, dataset: Dataset, label: str) -> str:
        """Make a final, unique path for a data file that shows whose it is, should the run fail."""
        return self.lake.new_data_path(dataset.name, label, self.context.mark)

    def key(self, dataset: Dataset, local_date: date) -> Key:
        """Choose the key of a dataset's rows of a date; without epochs it changes by a rebuild only."""
        return self.keyset.key_for(local_date) if dataset.epoch else self.keyset.primary

    def subkeys(self, dataset: Dataset, local_date: date) -> Callable[[str], bytes]:
        """Give the subkeys of a dataset's entities in the epoch of a local date."""
        secret = self.key(dataset, local_date).secret
        label = epoch_label(dataset.epoch, local_date)
        return lambda entity: derive_subkey(secret.reveal(SECRET_ACCESS), dataset.domain, entity, label)

    def footer(self, dataset: Dataset, source: str, local_date: date | None = None) -> dict[str, str]:
        """Say in a file's footer what its rows derive from, in digests and ids of keys."""
        marks = {"meterveil.source": source, "meterveil.policy": self.plan.digest}
        if self.reference.version:
            marks["meterveil.reference"] = self.reference.version
        if dataset.domain and local_date:
            marks["meterveil.key"] = self.key(dataset, local_date).info.id
        return marks


@lru_cache(maxsize=4)
def open_run(context: RunContext) -> OpenRun:
    """Open a run's context, once a process."""
    return OpenRun(context)


def current_horizons(lake: Lake) -> tuple[tuple[str, int], ...]:
    """List the datasets that have a horizon, with it (``pipeline.horizons``)."""
    return tuple(sorted(read_horizons(lake).items()))


def current_snapshots(lake: Lake, plan: Plan, remade: Collection[str] = ()) -> tuple[tuple[str, int], ...]:
    """List the tables of a plan that have a snapshot, with the current one's id; of those made anew the state alone."""
    names = [name for name in plan.datasets if name not in remade or name == STATE_TABLE]
    snapshots = ((name, lake.state(name).snapshot_id) for name in names)
    return tuple((name, snapshot) for name, snapshot in snapshots if snapshot is not None)


def read_last_commit(lake: Lake) -> Mapping[str, str]:
    """Read what the last run that committed said of itself (``pipeline.journal.Journal``); nothing if none has."""
    return lake.state(RUNS).summary() if lake.has_table(RUNS) else {}


def newest_reference(lake: Lake) -> Snapshot:
    """Open the reference of the last run that committed, or ``NO_REFERENCE`` where no run had one."""
    return _open_reference(lake, read_last_commit(lake).get("meterveil.reference", ""))


def _open_reference(lake: Lake, version: str) -> Snapshot:
    return open_snapshot(reference_folder(lake), version) if version else NO_REFERENCE


def name_run(now: datetime) -> str:
    """Make the id of a run that begins now: the time, for people, and something random."""
    return f"{now.astimezone(UTC):{_BEGIN}}-{secrets.token_hex(4)}"


def begin_of_run(run_id: str) -> datetime:
    """Read from a run's id when it began, to the second."""
    return datetime.strptime(run_id.rpartition("-")[0], _BEGIN).replace(tzinfo=UTC)


def mark_of(run_id: str) -> str:
    """Give the random end of a run's id, by which its data files are known."""
    return run_id.rpartition("-")[2]


def staging_folder(lake: Lake, run_id: str) -> Path | ObjectPath:
    """Where a run keeps frames until it has committed; of use to nobody afterwards."""
    return lake.operational / "staging" / run_id


def reference_folder(lake: Lake) -> Path | ObjectPath:
    """Where a lake keeps its reference snapshots."""
    return lake.operational / "reference"
