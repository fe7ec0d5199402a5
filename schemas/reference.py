"""Arrow schemas of the reference feeds: usage sites with their metering points, contracts, customers."""

import pyarrow as pa

from schemas.registers import REGISTERS

_DATE = pa.date32()

#: One row per metering point. ``site_id`` is the usage site: a consuming and a producing point may share one.
SITES_SCHEMA = pa.schema(
    [
        pa.field("metering_point_id", pa.string(), nullable=False),
        pa.field("site_id", pa.string(), nullable=False),
        pa.field("direction", pa.string(), nullable=False),  # consumption | production
        pa.field("street_address", pa.string()),
        pa.field("postal_code", pa.string()),
        pa.field("city", pa.string()),
        pa.field("municipality", pa.string()),
        pa.field("building_type", pa.string()),
        pa.field("heating", pa.string()),
        pa.field("fuse_a", pa.int32()),  # main fuse, ampere per phase, three phases
        pa.field("grid_area", pa.string()),
    ]
)

#: Points as a snapshot has them. ``withheld``: somebody under an information restriction lives at the usage site, or
#: has lived there, so that nothing may tell where it is.
POINTS_SCHEMA = SITES_SCHEMA.append(pa.field("withheld", pa.bool_(), nullable=False))

#: One row per contract at a known point: when it is, and what its usage site is like.
STAYS_SCHEMA = pa.schema(
    [
        *(POINTS_SCHEMA.field(name) for name in ("site_id", "metering_point_id")),
        pa.field("valid_from", _DATE, nullable=False),
        pa.field("valid_to", _DATE),
        *(
            POINTS_SCHEMA.field(name)
            for name in ("postal_code", "municipality", "building_type", "heating", "fuse_a", "grid_area", "withheld")
        ),
    ]
)

#: One row per contract, in whole local days, half-open: ``valid_from`` is the first day, ``valid_to`` the first day
#: after (null: open). Of two contracts that cover one point on one day the later signed one counts.
CONTRACTS_SCHEMA = pa.schema(
    [
        pa.field("contract_id", pa.string(), nullable=False),
        pa.field("metering_point_id", pa.string(), nullable=False),
        pa.field("customer_id", pa.string(), nullable=False),
        pa.field("tariff", pa.string()),
        pa.field("valid_from", _DATE, nullable=False),
        pa.field("valid_to", _DATE),
        pa.field("signed_at", pa.timestamp("us", tz="UTC"), nullable=False),
    ]
)

#: One row per customer. ``identity_code`` of a person, ``business_id`` of a company.
CUSTOMERS_SCHEMA = pa.schema(
    [
        pa.field("customer_id", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),  # person | company
        pa.field("name", pa.string()),
        pa.field("identity_code", pa.string()),
        pa.field("business_id", pa.string()),
        pa.field("phone", pa.string()),
        pa.field("email", pa.string()),
        pa.field("street_address", pa.string()),
        pa.field("postal_code", pa.string()),
        pa.field("city", pa.string()),
        pa.field("language", pa.string()),
        pa.field("information_restriction", pa.bool_(), nullable=False),
        # When the company was last told; a file may leave the column out.
        pa.field("received_at", pa.timestamp("us", tz="UTC"), metadata={"optional": "yes"}),
    ]
)

#: Customers with what all sources say of them; of deaths registers alone know.
RESOLVED_SCHEMA = CUSTOMERS_SCHEMA.append(pa.field("deceased_on", _DATE))

#: Feed name to schema; a reference folder holds one file per feed, ``<name>.parquet``, ``.csv`` or ``.avro``.
REFERENCE_FEEDS: dict[str, pa.Schema] = {
    "sites": SITES_SCHEMA,
    "contracts": CONTRACTS_SCHEMA,
    "customers": CUSTOMERS_SCHEMA,
    **{name: register.schema for name, register in REGISTERS.items()},
}
