"""Shares of target groups in a lake, by area: of those whom marketing may reach today, by the lake's own reference."""

from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.access import current_user
from pipeline.audit import AuditEntry, record_event
from pipeline.context import newest_reference
from pipeline.entities import bans_are_current_on, view_marketing
from pipeline.lake import Lake
from pipeline.load import Load
from pipeline.reference import Snapshot
from pipeline.table_state import CurrentFile
from transforms.calendar import local_day, to_date
from transforms.customers import take_customers
from transforms.group_shares import share_groups
from transforms.plan import Disclosure, Plan

_PLACES = ("municipality", "postal_code")
_PEOPLE = pa.schema([(name, pa.string()) for name in (*_PLACES, "target_group")])


def tell_group_shares(lake: Lake, plan: Plan, minimum: int) -> pa.Table:
    """Work out the shares; leaves a line in the audit log.

    Args:
        lake: the lake; its operational zone must be in reach.
        plan: its policy.
        minimum: how few are not told.

    Returns:
        Rows of ``transforms.group_shares.SHARES_SCHEMA``. Somebody with several sites counts where the first one is.
    """
    reference = newest_reference(lake)
    now = datetime.now(UTC)
    current = bans_are_current_on(reference, plan, to_date(local_day(now, lake.settings.time_zone)))
    buckets = range(reference.bucket_count)
    points = [reference.points(bucket).select(["metering_point_id", *_PLACES]) for bucket in buckets]
    load = Load(plan, _list_months(lake, plan), reference.bucket_count, threads=1)
    people = [_list_people(reference, plan, bucket, load, bans_current=current) for bucket in buckets]
    placed = _place(people, points) if people else _PEOPLE.empty_table()
    # A person counts as one: no share of a sum says more of them than their count.
    shares = share_groups(placed, list(plan.target_groups), Disclosure(minimum, dominance=1.0))
    details = {"rows": shares.num_rows, "suppressed": shares.num_rows - shares["suppressed"].null_count}
    record_event(lake, AuditEntry(now, current_user().name, "policy groups", "done", details=details))
    return shares


def _list_months(lake: Lake, plan: Plan) -> dict[str, dict[str, CurrentFile]]:
    """List the files of months that the lake has of operational points."""
    names = [name for name, one in plan.datasets.items() if one.view == "months" and one.zone == "operational"]
    return {name: {file.label: file for file in lake.state(name).files()} for name in names if lake.has_table(name)}


def _list_people(reference: Snapshot, plan: Plan, bucket: int, load: Load, *, bans_current: bool) -> pa.Table:
    """List point and target group of the customers of a bucket whom marketing may reach."""
    view = view_marketing(reference, plan, bucket, load, bans_current=bans_current)
    points = take_customers(reference.customers(bucket))["metering_point_id"]
    people = pa.table({"metering_point_id": points, "target_group": view["target_group"]})
    return people.filter(view["marketable"])


def _place(people: list[pa.Table], points: list[pa.Table]) -> pa.Table:
    """Say where people have their site."""
    who, places = pa.concat_tables(people), pa.concat_tables(points)
    at = pc.index_in(who["metering_point_id"], places["metering_point_id"])
    return pa.table([*(places[name].take(at) for name in _PLACES), who["target_group"]], schema=_PEOPLE)
