"""Arrow schemas of what flows between sources, core and graph."""

import pyarrow as pa

#: Energy is an integer count of milliwatt-hours (1e-6 kWh), the Datahub's precision.
MWH_PER_KWH = 1_000_000
#: Greatest magnitude that a reading may have, 99,999,999.999999 kWh, in milliwatt-hours.
MAX_ENERGY = 99_999_999_999_999

#: Active energy, the product of a reading that names none (blank or ``0``).
ACTIVE_ENERGY = "8716867000030"

#: District heat, which has no code of its own.
DISTRICT_HEAT = "district_heat"

#: Resolution of a daily value, in (nominal) seconds: one local day, whatever its length.
DAY_S = 86_400

_TIME = pa.timestamp("us", tz="UTC")

#: A series batch: one row per series. ``energy`` and ``status`` have equal lengths and no nulls inside; under MISSING
#: the energy is 0. ``row`` is where the series stands in its file, counted from 1 (a line of a CSV file, header
#: included; a record of an Avro or Parquet file); ``position`` is the place of its first reading among those that stand
#: there. Reading ``p`` of a series is the one at ``row`` and ``position + p``, which no other reading of the file is.
SERIES_SCHEMA = pa.schema(
    [
        pa.field("metering_point_id", pa.string(), nullable=False),
        pa.field("product", pa.string(), nullable=False),
        pa.field("start", _TIME, nullable=False),
        pa.field("resolution_s", pa.int32(), nullable=False),
        pa.field("registered_at", _TIME, nullable=False),
        pa.field("energy", pa.list_(pa.field("item", pa.int64(), nullable=False)), nullable=False),
        pa.field("status", pa.list_(pa.field("item", pa.int8(), nullable=False)), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("position", pa.int32(), nullable=False),
    ]
)

#: Readings set aside: one row per reading. The fields stand as text, as far as they could be read; ``position`` is the
#: reading's place inside its series, from 0 (0 in formats with one reading a row); ``decoded_energy`` is its energy in
#: milliwatt-hours if that could be decoded and is within bounds, else 0 (for the conservation of sums).
REJECTED_SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("position", pa.int32(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("metering_point_id", pa.string()),
        pa.field("product", pa.string()),
        pa.field("start", pa.string()),
        pa.field("resolution", pa.string()),
        pa.field("registered_at", pa.string()),
        pa.field("energy", pa.string()),
        pa.field("status", pa.string()),
        pa.field("decoded_energy", pa.int64(), nullable=False),
    ]
)
