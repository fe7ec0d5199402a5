"""The risk report of what was published, counted from its files: what is suppressed, who is unique and who links."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.context import newest_reference
from pipeline.keys import Keyset
from pipeline.lake import open_lake
from pipeline.policy_file import load_policy
from pipeline.publish_risk import measure_day, measure_months
from pipeline.stores import columnar
from transforms.plan import Dataset
from transforms.risk import LINKAGE_FORMULA, UNICITY_FORMULA


def report_published(root: Path, record: dict[str, Any] | None, keyset: Keyset) -> dict[str, Any]:
    """Report what a run published.

    Args:
        root: of the lake.
        record: the run's record, or None where nothing was due.
        keyset: that of the lake, which knows the pseudonyms that an attacker guesses at.

    Returns:
        ``run_id`` (None where nothing was due); ``areas``: of each dataset of sums and each level, its cells, the
        fewest sites in one that is shown, and cells suppressed by reason; ``months``: of each dataset of months, rows;
        ``risk``: of each one under pseudonyms, with all that it has by now, unicity and linkage, and beside them the
        unicity of the newest day's readings under pseudonyms (``pipeline.publish_risk``); ``formulas``: what these are.
    """
    report: dict[str, Any] = {"run_id": record and record["run_id"], "areas": [], "months": [], "risk": []}
    report["formulas"] = {"unicity": UNICITY_FORMULA, "linkage": LINKAGE_FORMULA}
    if record is None:
        return report
    lake = open_lake(root)
    plan = load_policy(lake.stored_policy() or Path())
    for dataset in plan.datasets.values():
        files = lake.state(dataset.name).files()
        paths = [file.path for file in files if file.path in record["data_files"]]
        if paths and dataset.view == "area_hours":
            report["areas"] += _report_areas(dataset, paths)
        elif paths and dataset.view == "months":
            rows = sum(pq.read_metadata(columnar(path)).num_rows for path in paths)
            report["months"].append({"dataset": dataset.name, "files": len(paths), "rows": rows})
            report["risk"] += measure_months(dataset, files, newest_reference(lake), keyset)
        elif dataset.view == "readings" and dataset.zone == "analytics":
            report["risk"] += measure_day(dataset, files, newest_reference(lake), keyset)
    return report


def _report_areas(dataset: Dataset, paths: list[str]) -> list[dict[str, Any]]:
    names = {column.source: column.name for column in dataset.columns}
    if not {"level", "suppressed"} <= names.keys():
        return [{"dataset": dataset.name, "days": len(paths)}]
    wanted = [names[source] for source in ("level", "suppressed", "sites") if source in names]
    cells = pa.concat_tables(pq.ParquetFile(columnar(path)).read(wanted) for path in paths)
    lines = []
    for level in ("all", "municipality", "postal_area"):
        rows = cells.filter(pc.equal(cells[names["level"]], level))
        reasons = rows[names["suppressed"]]
        line: dict[str, Any] = {"dataset": dataset.name, "days": len(paths), "level": level, "cells": len(rows)}
        line["smallest group"] = pc.min(rows[names["sites"]]).as_py() if "sites" in names else None
        for reason in ("minimum", "dominance", "complementary"):
            line[reason] = pc.sum(pc.equal(reasons, reason)).as_py() or 0
        lines.append(line)
    return lines
