"""Verifying what was published: each day and month once, nothing shown of too few sites, nothing of what is not."""

from collections.abc import Container, Mapping

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.findings import Check, Findings
from pipeline.stores import columnar
from pipeline.table_state import CurrentFile
from pipeline.verify_tables import TableFiles
from schemas.views import VIEW_KINDS
from transforms.plan import Dataset, Plan

#: What a suppressed cell must not have.
_OF_CELL = ("sites", "energy", "mean")


def check_published(plan: Plan, findings: Findings, tables: Mapping[str, TableFiles], intact: Container[str]) -> None:
    """Check the datasets of sums and of months.

    Args:
        plan: the lake's policy.
        findings: where to tell.
        tables: tables that can be read.
        intact: paths of the files that hold.
    """
    check = findings["published"]
    for dataset in plan.datasets.values():
        if VIEW_KINDS[dataset.view] not in {"month", "aggregate"} or dataset.name not in tables:
            continue
        seen: set[str] = set()
        for file in tables[dataset.name].current:
            check.looked_at += 1
            if file.label in seen:
                check.find(file.path, "another file holds the same: it is published twice")
            seen.add(file.label)
            if dataset.disclosure and file.path in intact:
                _check_cells(check, plan, dataset, file)


def _check_cells(check: Check, plan: Plan, dataset: Dataset, file: CurrentFile) -> None:
    """Check what a file shows, if it was published by today's policy."""
    marks = pq.read_metadata(columnar(file.path)).metadata or {}
    names = {column.source: column.name for column in dataset.columns}
    if marks.get(b"meterveil.policy") != plan.digest.encode() or not {"sites", "suppressed"} <= names.keys():
        return
    assert dataset.disclosure
    columns = [names[source] for source in ("suppressed", *_OF_CELL) if source in names]
    rows = pa.Table.from_batches(pq.ParquetFile(columnar(file.path)).iter_batches(columns=columns))
    hidden = rows[names["suppressed"]].is_valid()
    if pc.any(pc.less(rows[names["sites"]], dataset.disclosure.minimum)).as_py():
        check.find(file.path, "it shows a sum of fewer sites than the policy asks for")
    if any(pc.any(pc.equal(rows[name].is_valid(), hidden)).as_py() for name in columns[1:]):
        check.find(file.path, "it shows a cell that is suppressed, or suppresses one without a reason")
