"""Views: what a dataset of the policy can choose its columns from. Every field has a type, a class and a meaning."""

from dataclasses import dataclass

import pyarrow as pa

_TIME = pa.timestamp("us", tz="UTC")
#: kWh with six decimals on INT64: one reading, and a sum over readings.
ENERGY = pa.decimal64(14, 6)
ENERGY_SUM = pa.decimal64(18, 6)

#: Field classes: how sensitive a field is, and how it may leave the operational side.
FIELD_CLASSES = (
    "direct_identifier",
    "identity_code",
    "contact",
    "location",
    "quasi_identifier",
    "usage",
    "financial",
    "profile",
    "technical",
)


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a view.

    Attributes:
        name: the field's name.
        type: its Arrow type.
        required: whether it is never null.
        field_class: one of ``FIELD_CLASSES``.
        doc: unit and meaning, the column comment of every table that has it.
    """

    name: str
    type: pa.DataType
    required: bool
    field_class: str
    doc: str


def _view(*fields: Field) -> dict[str, Field]:
    return {field.name: field for field in fields}


_POINT = (
    Field("metering_point_id", pa.string(), True, "direct_identifier", "metering point (GSRN), canonical text"),
    Field("site_id", pa.string(), True, "direct_identifier", "usage site; a point unknown to the reference is its own"),
    Field("product", pa.string(), True, "technical", "product id; 8716867000030 is active energy"),
    Field("direction", pa.string(), True, "technical", "consumption or production, of the metering point"),
    Field("local_date", pa.date32(), True, "technical", "local date of the interval, in the lake's time zone"),
)
_CUSTOMER = (
    Field("customer_id", pa.string(), False, "direct_identifier", "customer whose contract covered the point that day"),
    Field("contract_id", pa.string(), False, "direct_identifier", "contract that covered the point that day"),
    Field("tariff", pa.string(), False, "financial", "tariff of that contract"),
    Field("contracted", pa.bool_(), True, "technical", "whether a contract covered the point that day"),
)
_SITE = (
    Field("postal_code", pa.string(), False, "location", "postal code of the usage site"),
    Field("municipality", pa.string(), False, "location", "municipality of the usage site"),
    Field("building_type", pa.string(), False, "quasi_identifier", "building type of the usage site"),
    Field("heating", pa.string(), False, "quasi_identifier", "main heating of the usage site"),
    Field("fuse_a", pa.int32(), False, "quasi_identifier", "main fuse, ampere per phase, three phases"),
    Field("grid_area", pa.string(), False, "location", "grid area of the metering point"),
)

#: Where a usage site is: null of sites of people under an information restriction, in every view of points.
PLACES = tuple(field.name for field in _SITE if field.field_class == "location")

#: One row per usage site and period in which somebody has a contract there; a period is a year, or part of one.
SITES = _view(
    Field("site_id", pa.string(), True, "direct_identifier", "usage site"),
    Field("valid_from", pa.date32(), True, "technical", "first local day of the period"),
    Field("valid_to", pa.date32(), True, "technical", "first local day after the period"),
    *_SITE,
)

#: One row per reading that counts.
READINGS = _view(
    *_POINT,
    Field("resolution_s", pa.int32(), True, "technical", "length of the interval in seconds; 86400 is one local day"),
    Field("start", _TIME, True, "technical", "start of the interval, UTC"),
    Field("energy", ENERGY, False, "usage", "energy of the interval in kWh; null if and only if MISSING"),
    Field(
        "status",
        pa.string(),
        True,
        "technical",
        "quality: MISSING, PARTIAL, UNCERTAIN, ESTIMATED, CALCULATED, OK, REVISED",
    ),
    Field("flags", pa.int32(), True, "technical", "bits of what was noticed about the reading (schemas/flags.py)"),
    Field("registered_at", _TIME, True, "technical", "when the value was registered, UTC"),
    Field(
        "rival_registered_at", _TIME, False, "technical", "latest registration of another resolution in the same hour"
    ),
    Field(
        "daily_rival_registered_at", _TIME, False, "technical", "latest registration of a daily value of the same day"
    ),
    *_CUSTOMER,
    *_SITE,
)

#: Fields of ``READINGS`` that can differ from one reading of a day to the next; all others hold for a point all day.
OF_EACH_READING = (
    "start",
    "energy",
    "status",
    "flags",
    "registered_at",
    "rival_registered_at",
    "daily_rival_registered_at",
)

#: One row per metering point, product and local date.
DAILY = _view(
    *_POINT,
    Field("energy", ENERGY_SUM, False, "usage", "energy of the local day in kWh; null where no value is present"),
    Field("expected_minutes", pa.int32(), True, "technical", "minutes of the local day: 1380, 1440 or 1500"),
    Field("present_minutes", pa.int32(), True, "technical", "minutes of the day that have a value"),
    Field(
        "status",
        pa.string(),
        True,
        "technical",
        "weakest quality of the day's readings; MISSING without any, PARTIAL with some",
    ),
    Field("peak_kw", ENERGY, False, "usage", "greatest mean power of an interval of the day, kW"),
    Field("base_kw", ENERGY, False, "usage", "smallest mean power of an interval of the day, kW"),
    Field(
        "night_share", pa.float64(), False, "usage", "share of the day's energy between 22 and 07 local time, 0 to 1"
    ),
    Field("load_factor", pa.float64(), False, "usage", "mean power over peak power, 0 to 1"),
    *_CUSTOMER,
    *_SITE,
)

#: Fields of ``DAILY`` that a month has too, of all its days.
_OF_MONTH = (
    *("metering_point_id", "site_id", "product", "direction", "energy", "expected_minutes", "present_minutes"),
    *("peak_kw", "base_kw", "night_share", "load_factor"),
)

#: One row per customer and contract: who a customer is and what they have.
CUSTOMERS = _view(
    Field("customer_id", pa.string(), True, "direct_identifier", "customer"),
    Field("kind", pa.string(), True, "quasi_identifier", "person or company"),
    Field("name", pa.string(), False, "direct_identifier", "name of the person or company"),
    Field("identity_code", pa.string(), False, "identity_code", "personal identity code"),
    Field("business_id", pa.string(), False, "identity_code", "business id of a company"),
    Field("phone", pa.string(), False, "contact", "telephone number"),
    Field("email", pa.string(), False, "contact", "e-mail address"),
    Field("postal_address", pa.string(), False, "contact", "postal address of the customer, one line"),
    Field("language", pa.string(), False, "quasi_identifier", "language of service"),
    Field(
        "information_restriction",
        pa.bool_(),
        True,
        "direct_identifier",
        "whether an information restriction is in force",
    ),
    Field("deceased_on", pa.date32(), False, "direct_identifier", "date of death, as a register says"),
    Field("metering_point_id", pa.string(), False, "direct_identifier", "metering point of the contract"),
    Field("site_id", pa.string(), False, "direct_identifier", "usage site of the metering point"),
    Field("site_address", pa.string(), False, "location", "address of the usage site, one line"),
    Field("contract_id", pa.string(), False, "direct_identifier", "contract"),
    Field("tariff", pa.string(), False, "financial", "tariff of the contract"),
    Field("valid_from", pa.date32(), False, "technical", "first local day of the contract"),
    Field("valid_to", pa.date32(), False, "technical", "first local day after the contract; null while it is open"),
    Field("building_type", pa.string(), False, "quasi_identifier", "building type of the usage site"),
    Field("heating", pa.string(), False, "quasi_identifier", "main heating of the usage site"),
    Field("fuse_a", pa.int32(), False, "quasi_identifier", "main fuse, ampere per phase, three phases"),
)

#: One row per customer: how they pay, and what the credit register says.
ACCOUNTS = _view(
    *(
        CUSTOMERS[name]
        for name in (
            *("customer_id", "kind", "name", "identity_code", "business_id", "phone", "email", "postal_address"),
            "information_restriction",
        )
    ),
    Field("invoices", pa.int32(), True, "financial", "invoices sent"),
    Field("invoiced_cents", pa.int64(), True, "financial", "sum of invoices, cents"),
    Field("payments", pa.int32(), True, "financial", "payments received"),
    Field("paid_cents", pa.int64(), True, "financial", "sum of payments, cents"),
    Field("open_cents", pa.int64(), True, "financial", "invoiced and not paid, cents"),
    Field("reminders", pa.int32(), True, "financial", "reminders sent"),
    Field("latest_invoice_on", pa.date32(), False, "financial", "date of the latest invoice"),
    Field("latest_payment_on", pa.date32(), False, "financial", "date of the latest payment"),
    Field("latest_reminder_on", pa.date32(), False, "financial", "date of the latest reminder"),
    Field(
        "payment_defaults", pa.int32(), False, "financial", "payment defaults, by the credit register; null: no entry"
    ),
    Field("latest_default_on", pa.date32(), False, "financial", "date of the latest payment default"),
    Field("credit_received_at", _TIME, False, "technical", "when the credit register said so, UTC"),
)

#: One row per customer: whom direct marketing may reach. Who is out has nothing but an id here.
MARKETING = _view(
    CUSTOMERS["customer_id"],
    Field("marketable", pa.bool_(), True, "technical", "whether direct marketing may reach the customer"),
    *(
        Field(name, CUSTOMERS[name].type, False, CUSTOMERS[name].field_class, CUSTOMERS[name].doc)
        for name in ("kind", "name", "phone", "email", "postal_address", "language")
    ),
    Field("interests", pa.string(), False, "profile", "what the customer showed interest in at campaigns"),
    Field("preferred_channel", pa.string(), False, "profile", "channel that the customer agreed to last"),
    Field("target_group", pa.string(), False, "profile", "first target group of the policy that fits"),
    Field("reason", pa.string(), False, "profile", "the rule of that group, in words"),
)

#: What was set aside while reading; one row per reading.
QUARANTINE = _view(
    Field("file_digest", pa.string(), True, "technical", "SHA-256 of the file, hex"),
    Field("file_name", pa.string(), True, "direct_identifier", "name of the file"),
    Field("row", pa.int64(), True, "technical", "line or record in the file, from 1"),
    Field("position", pa.int32(), True, "technical", "place inside a series, from 0"),
    Field("reason", pa.string(), True, "technical", "reason code (schemas/reasons.py)"),
    *(
        Field(name, pa.string(), False, field_class, f"{name}, as text: {form}; as delivered where it can't be read")
        for name, field_class, form in (
            ("metering_point_id", "direct_identifier", "an id"),
            ("product", "technical", "an id"),
            ("start", "technical", "UTC"),
            ("resolution", "technical", "a duration such as PT15M"),
            ("registered_at", "technical", "UTC"),
            ("energy", "usage", "kWh"),
            ("status", "technical", "a word of our scale"),
        )
    ),
)

#: One row per reading that came back from quarantine; when its input is read again, it is not set aside again.
RELEASES = _view(
    Field("file_digest", pa.string(), True, "technical", "SHA-256 of the file that it was delivered in, hex"),
    Field("row", pa.int64(), True, "technical", "line or record in the file, from 1"),
    Field("position", pa.int32(), True, "technical", "place inside a series, from 0"),
    Field("reason", pa.string(), True, "technical", "why it had been set aside (schemas/reasons.py)"),
    Field("run_id", pa.string(), True, "technical", "the run that released it"),
)

#: One row per run that committed.
RUNS = _view(
    Field("run_id", pa.string(), True, "technical", "the run"),
    Field("started_at", _TIME, True, "technical", "when the run began, UTC"),
    Field("committed_at", _TIME, True, "technical", "when it committed, UTC"),
    Field("command", pa.string(), True, "technical", "the command, without values of options"),
    Field("outcome", pa.string(), True, "technical", "committed, or nothing to do"),
    Field("policy_digest", pa.string(), True, "technical", "SHA-256 of the policy, hex"),
    Field("reference_version", pa.string(), False, "technical", "reference snapshot used"),
    Field("code_version", pa.string(), True, "technical", "version of meterveil"),
    Field("key_id", pa.string(), True, "technical", "id of the pseudonymisation key"),
    Field(
        "record", pa.string(), True, "technical", "the whole run record, JSON: inputs, counts, sums, files, snapshots"
    ),
)

#: One row per metering point, product and local date whose energy a run changed after it had been delivered.
CHANGES = _view(
    Field("metering_point_id", pa.string(), True, "direct_identifier", "metering point (GSRN), canonical text"),
    Field("product", pa.string(), True, "technical", "product id; 8716867000030 is active energy"),
    Field("local_date", pa.date32(), True, "technical", "local date, in the lake's time zone"),
    Field("energy_before", ENERGY_SUM, False, "usage", "energy of the day in kWh before the run; null without a value"),
    Field("energy_after", ENERGY_SUM, False, "usage", "energy of the day in kWh after the run; null without a value"),
    Field("run_id", pa.string(), True, "technical", "the run that changed it"),
)

#: One row per metering point, product, contract and local month.
MONTHS = _view(
    *(field for name, field in DAILY.items() if name in _OF_MONTH),
    Field("month", pa.date32(), True, "technical", "first local date of the month"),
    Field(
        "weekend_ratio", pa.float64(), False, "usage", "mean energy of a Saturday or Sunday over that of another day"
    ),
    Field("midday_ratio", pa.float64(), False, "usage", "mean power from 10 to 15 over that before and after: the sun"),
    Field("utilisation_hours", pa.float64(), False, "usage", "energy over greatest power, hours"),
    *_CUSTOMER,
    *_SITE,
)

#: One row per area, product, direction and hour: a sum over usage sites, null where it would tell of few.
AREA_HOURS = _view(
    Field("level", pa.string(), True, "technical", "postal_area, municipality or all"),
    Field("municipality_name", pa.string(), False, "technical", "municipality; null of all"),
    Field(
        "postal_area", pa.string(), False, "technical", "postal code, within the municipality; null of greater areas"
    ),
    Field("product", pa.string(), True, "technical", "product id; 8716867000030 is active energy"),
    Field("direction", pa.string(), True, "technical", "consumption or production"),
    Field("local_date", pa.date32(), True, "technical", "local date of the hour, in the lake's time zone"),
    Field("start", _TIME, True, "technical", "start of the hour, UTC"),
    Field("sites", pa.int64(), False, "technical", "usage sites with a value"),
    Field("energy", ENERGY_SUM, False, "usage", "energy of the hour in kWh"),
    Field("mean", ENERGY_SUM, False, "usage", "energy by site, kWh"),
    Field("suppressed", pa.string(), False, "technical", "why there is no sum: minimum, dominance or complementary"),
)

VIEWS: dict[str, dict[str, Field]] = {
    "readings": READINGS,
    "daily": DAILY,
    "sites": SITES,
    "customers": CUSTOMERS,
    "accounts": ACCOUNTS,
    "marketing": MARKETING,
    "months": MONTHS,
    "area_hours": AREA_HOURS,
    "quarantine": QUARANTINE,
    "releases": RELEASES,
    "changes": CHANGES,
    "runs": RUNS,
}

#: Fields of views by which a dataset leaves out people who may not be shown in it.
WITHHELD_BY = frozenset({"information_restriction", "marketable"})

#: How the files of a view are laid out: per cell, per bucket of an entity, per
#: month and bucket, per local date of a published sum, per input file, or as a log.
VIEW_KINDS = {
    "readings": "cell",
    "daily": "cell",
    "sites": "entity",
    "customers": "entity",
    "accounts": "entity",
    "marketing": "entity",
    "months": "month",
    "area_hours": "aggregate",
    "quarantine": "input",
    "releases": "input",
    "changes": "log",
    "runs": "log",
}
