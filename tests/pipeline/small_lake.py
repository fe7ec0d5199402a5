"""A small plan made by hand, and rows for it: what the tests of the lake share."""

from datetime import date

import numpy as np
import pyarrow as pa

from pipeline.parquet import DataFile, write_data_file
from schemas.views import VIEWS
from transforms.plan import Column, Controller, Dataset, Keep, Plan, Pseudonymise, Purpose

DAY = (date(2026, 3, 29) - date(1970, 1, 1)).days  # clocks go forward in Finland: 92 quarter-hours
CELL = f"{DAY}/00000"


def keep(view: str, *names: str) -> tuple[Column, ...]:
    fields = [VIEWS[view][name] for name in names]
    return tuple(Column(field.name, field.name, Keep(), field.type, field.required, field.doc) for field in fields)


def pseudonym(name: str, source: str, entity: str) -> Column:
    return Column(name, source, Pseudonymise(entity), pa.uuid(), required=True, doc=f"pseudonym of the {entity}")


def dataset(name: str, view: str, role: str, purpose: str, columns: tuple[Column, ...]) -> Dataset:
    zone = "analytics" if name.startswith("analytics.") else "operational"
    roles, purposes = frozenset({role}), frozenset({purpose})
    return Dataset(
        name, zone, view, roles, purposes, "load-research" if zone == "analytics" else "", "", {}, None, columns
    )


OPERATIONAL = dataset(
    "operational.readings",
    "readings",
    "metering_operations",
    "operations",
    keep("readings", "metering_point_id", "local_date", "start", "energy", "status", "flags", "customer_id"),
)
ANALYTICS = dataset(
    "analytics.readings",
    "readings",
    "analyst",
    "load_research",
    (
        pseudonym("metering_point", "metering_point_id", "metering_point"),
        *keep("readings", "local_date", "start", "energy", "status"),
    ),
)
DAILY = dataset(
    "analytics.daily",
    "daily",
    "analyst",
    "product_development",
    (
        pseudonym("metering_point", "metering_point_id", "metering_point"),
        *keep("daily", "local_date", "energy", "night_share"),
    ),
)
CUSTOMERS = dataset(
    "operational.customers",
    "customers",
    "customer_service",
    "customer_care",
    keep("customers", "customer_id", "kind", "language"),
)

PURPOSE = Purpose("contract", {}, "statement", {}, frozenset())

PLAN = Plan(
    digest="0" * 64,
    datasets={item.name: item for item in (OPERATIONAL, ANALYTICS, DAILY, CUSTOMERS)},
    controller=Controller("A company", "somebody"),
    roles={role: {} for role in ("metering_operations", "analyst", "customer_service")},
    purposes=dict.fromkeys(("operations", "load_research", "product_development", "customer_care"), PURPOSE),
    grants={
        "*": frozenset({"analyst"}),
        "mari": frozenset({"metering_operations"}),
        "@service": frozenset({"customer_service"}),
    },
)


def reading_columns(points: int, slots: int, day: int = DAY, seed: int = 1) -> dict[str, pa.Array]:
    """Columns of points × slots quarter-hours: ids and pseudonyms as dictionaries, energy in milliwatt-hours."""
    random = np.random.default_rng(seed)
    rows = points * slots
    of_point = pa.array(np.repeat(np.arange(points, dtype=np.int32), slots))
    missing = random.random(rows) < 0.1
    start = day * 86_400_000_000 + np.tile(np.arange(slots) * 900_000_000, points)
    ids = [f"64300696602{number:07d}" for number in range(points)]
    return {
        "metering_point_id": pa.DictionaryArray.from_arrays(of_point, pa.array(ids)),
        "metering_point": pa.DictionaryArray.from_arrays(
            of_point, pa.array([random.bytes(16) for _ in ids], pa.binary(16))
        ),
        "local_date": pa.array(np.full(rows, day, np.int32)).cast(pa.date32()),
        "start": pa.array(start).cast(pa.timestamp("us", tz="UTC")),
        "energy": pa.array(random.integers(-5_000_000, 10**13, rows), mask=missing),
        "status": pa.DictionaryArray.from_arrays(pa.array(missing.astype(np.int8)), pa.array(["OK", "MISSING"])),
        "flags": pa.array(np.zeros(rows, np.int32)),
        "customer_id": pa.nulls(rows, pa.string()),
    }


def reading_rows(of: Dataset, points: int = 3, slots: int = 92, day: int = DAY, seed: int = 1) -> pa.Table:
    columns = reading_columns(points, slots, day, seed)
    return pa.table({column.name: columns[column.name] for column in of.columns})


def write_readings(lake, of: Dataset, label: str = CELL, **shape) -> DataFile:
    day = int(label.partition("/")[0])
    return write_data_file(
        [reading_rows(of, day=day, **shape)], of, lake.new_data_path(of.name, label), {"meterveil.key": "k1"}
    )
