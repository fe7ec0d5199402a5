"""Disclosing data outside the company: a recipient's own datasets, or an answer to an authority; with its basis."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.access import User, granted_roles
from pipeline.audit import AuditEntry, record_event
from pipeline.errors import MeterveilError
from pipeline.files import create_file, make_folder
from pipeline.lake import Lake
from pipeline.stores import columnar
from transforms.plan import Dataset, Plan
from transforms.policy_errors import suggest_name

#: So many digits in a row are an identifier: a metering point has 18, a customer's number or a phone fewer.
_IDENTIFIER = re.compile(r"\d{7,}|\d{6}[-+A-Fa-fU-Yu-y]\d{3}")
_LONGEST_BASIS = 300


@dataclass(frozen=True, slots=True)
class Disclosed:
    """What was handed out.

    Attributes:
        dataset: name of the dataset, or ``answer``.
        file: where it was written.
        rows: how many rows.
    """

    dataset: str
    file: str
    rows: int


def disclose_datasets(lake: Lake, plan: Plan, recipient: str, basis: str, folder: Path, user: User) -> list[Disclosed]:
    """Write the current rows of a recipient's datasets to files, one a dataset; leaves a line in the audit log.

    Args:
        lake: the lake.
        plan: the policy that grants.
        recipient: a recipient of the policy.
        basis: why it may be given, in words that name nobody: a contract, a paragraph of a law, a reference number.
        folder: a folder that is not there yet.
        user: who discloses.

    Raises:
        MeterveilError: refused, no such recipient, or nothing is its own.
    """
    with _logged(lake, plan, recipient, basis, user) as done:
        own = [dataset for dataset in plan.datasets.values() if dataset.audience == {recipient}]
        if not own:
            raise MeterveilError(
                f"no dataset is for {recipient}", where="disclose", remedy="an authority is given an answer: --sql"
            )
        if folder.exists():
            raise MeterveilError("it is there already", where=str(folder), remedy="name a folder to make")
        make_folder(folder, private=True)
        done += [_write(lake, dataset, folder / f"{dataset.name}.parquet") for dataset in own]
    return done


def disclose_answer(
    lake: Lake, plan: Plan, recipient: str, basis: str, answer: pa.Table, path: Path, user: User
) -> list[Disclosed]:
    """Write the answer to a query (``pipeline.query``, under a role of the user) for a recipient; logged likewise.

    Raises:
        MeterveilError: refused, no such recipient, or the file is there already.
    """
    with _logged(lake, plan, recipient, basis, user) as done:
        if path.exists():
            raise MeterveilError("it is there already", where=str(path), remedy="name a file to make")
        make_folder(path.parent, private=True)
        with open(create_file(path, private=True), "wb") as stream:  # noqa: PTH123 - a descriptor
            pq.write_table(answer, stream)
        done.append(Disclosed("answer", str(path), answer.num_rows))
    return done


def check_disclosure(plan: Plan, recipient: str, basis: str, user: User) -> None:
    """Refuse what nobody may disclose, or not this user, or without a basis.

    Raises:
        MeterveilError: that.
    """
    if recipient not in plan.recipients:
        raise MeterveilError(
            f"there is no recipient '{recipient}'", where="disclose", remedy=suggest_name(recipient, plan.recipients)
        )
    by = plan.recipients[recipient].disclosed_by
    if not by & granted_roles(plan, user):
        roles = ", ".join(sorted(by)) or "nobody"
        raise MeterveilError(
            f"this user may not disclose to {recipient}", where="disclose", remedy=f"the policy lets: {roles}"
        )
    if not basis.strip() or len(basis) > _LONGEST_BASIS or _IDENTIFIER.search(basis):
        raise MeterveilError(
            "the basis is empty, too long, or holds an identifier, which the log must not",
            where="--basis",
            remedy="name a contract or a paragraph of a law, and a short reference",
        )


@contextmanager
def _logged(lake: Lake, plan: Plan, recipient: str, basis: str, user: User) -> Iterator[list[Disclosed]]:
    """Check a disclosure, and leave a line however it ends."""
    done: list[Disclosed] = []
    outcome, told = "refused", ""
    try:
        check_disclosure(plan, recipient, basis, user)
        outcome, told = "failed", basis
        yield done
        outcome = "done"
    finally:
        rows = sum(one.rows for one in done)
        kind = plan.recipients[recipient].kind if recipient in plan.recipients else ""
        details: dict[str, str | int] = {
            "recipient": recipient if kind else "",
            "kind": kind,
            "basis": told,
            "rows": rows,
        }
        tables = tuple(one.dataset for one in done)
        record_event(
            lake, AuditEntry(datetime.now(UTC), user.name, "disclose", outcome, tables=tables, details=details)
        )


def _write(lake: Lake, dataset: Dataset, path: Path) -> Disclosed:
    schema = pa.schema([pa.field(column.name, column.type, not column.required) for column in dataset.columns])
    rows = 0
    files = sorted(lake.state(dataset.name).files(), key=lambda file: file.label)
    with open(create_file(path, private=True), "wb") as stream, pq.ParquetWriter(stream, schema) as writer:  # noqa: PTH123
        for file in files:
            with pq.ParquetFile(columnar(file.path)) as source:
                for batch in source.iter_batches():
                    writer.write_table(pa.Table.from_batches([batch]).cast(schema))
                    rows += batch.num_rows
    return Disclosed(dataset.name, str(path), rows)
