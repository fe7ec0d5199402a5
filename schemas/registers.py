"""The feeds of the privacy statement beyond sites, contracts and customers: what each says, and of whom.

Every row says its ``source`` and when it was received. A row of the company's own systems names its customer. A row of
a register finds its customer by a key: the columns that are compared. What a feed may say is its attributes, which
are resolved over all sources, and its facts, which are kept as they come.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import pyarrow as pa

_TIME = pa.timestamp("us", tz="UTC")
_TEXT, _DATE = pa.string(), pa.date32()

#: What is known of a customer from several sources, and its columns; an address is one thing and never mixed.
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "name": ("name",),
    "phone": ("phone",),
    "email": ("email",),
    "postal_address": ("street_address", "postal_code", "city"),
    "language": ("language",),
    "deceased_on": ("deceased_on",),
    "information_restriction": ("information_restriction",),
}
#: Attributes that protect: one source that says so is enough, whatever the order of sources.
PROTECTIONS = frozenset({"information_restriction"})

#: Keys, the strongest first, and the columns that each compares. A phone is compared with the name, where a row has
#: one; a ``number`` is compared alone, whoever has it.
KEYS: dict[str, tuple[str, ...]] = {
    "identity_code": ("identity_code",),
    "business_id": ("business_id",),
    "phone": ("phone", "name"),
    "number": ("phone",),
    "name_address": ("name", "street_address", "postal_code"),
}
_TYPES = {"deceased_on": _DATE, "information_restriction": pa.bool_()}
#: The customers' own feed, as it stands among the sources of an attribute.
CUSTOMERS_FEED = "customers"


@dataclass(frozen=True, eq=False)
class Register:
    """A feed.

    Attributes:
        keys: names of ``KEYS`` by which its rows find their customers; none: they name the customer.
        attributes: names of ``ATTRIBUTES`` that it may say.
        facts: what else it says, kept as it comes.
        words: the only words that a column may hold.
        protects: whether a row holds for everybody who has any of its keys, however many they are.
    """

    keys: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    facts: tuple[pa.Field, ...] = ()
    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    protects: bool = False

    @cached_property
    def schema(self) -> pa.Schema:
        """What its files hold."""
        compared = [column for key in self.keys for column in KEYS[key]]
        said = [column for attribute in self.attributes for column in ATTRIBUTES[attribute]]
        found = dict.fromkeys([*compared, *said] if self.keys else ["customer_id"])
        who = [pa.field(name, _TYPES.get(name, _TEXT), nullable=bool(self.keys)) for name in found]
        return pa.schema([*_SAID, *who, *self.facts])

    @cached_property
    def kept(self) -> pa.Schema:
        """What is kept of a row once its customer is found: who, who said it and when, attributes and facts."""
        said = [column for attribute in self.attributes for column in ATTRIBUTES[attribute]]
        fields = [self.schema.field(name) for name in said]
        return pa.schema([pa.field("customer_id", _TEXT, nullable=False), *_SAID, *fields, *self.facts])


_SAID = (pa.field("source", _TEXT, nullable=False), pa.field("received_at", _TIME, nullable=False))
_ANYBODY = ("identity_code", "business_id", "phone", "name_address")
_CONTACT = ("name", "phone", "email", "postal_address", "language")


def _fact(name: str, of: pa.DataType = _TEXT, *, required: bool = True) -> pa.Field:
    return pa.field(name, of, nullable=not required)


#: Feed name to what it is.
REGISTERS: dict[str, Register] = {
    # Competitions, events, raffles: contact data, with the purpose that was agreed.
    "campaign": Register(
        keys=("phone", "name_address"),
        attributes=_CONTACT,
        facts=(_fact("kind"), _fact("campaign"), _fact("agreed_purpose"), _fact("interest", required=False)),
        words={"kind": ("competition", "event", "raffle")},
    ),
    # Address changes, deaths, non-disclosure for personal safety (an information restriction).
    "population_register": Register(
        keys=("identity_code",),
        attributes=("name", "postal_address", "language", "deceased_on", "information_restriction"),
    ),
    # Payment defaults.
    "credit_register": Register(
        keys=("identity_code", "business_id"),
        facts=(_fact("defaults", pa.int32()), _fact("latest_default_on", _DATE, required=False)),
    ),
    "telephone_directory": Register(keys=("name_address",), attributes=("phone",)),
    # A ban by telephone is of a number, one by post of a name and address.
    "marketing_ban": Register(
        keys=("number", "name_address"),
        facts=(_fact("channel"), _fact("list_version", _DATE)),
        words={"channel": ("telephone", "post")},
        protects=True,
    ),
    # Invoices, payments, reminders: payment behaviour. Money in cents.
    "payment": Register(
        facts=(_fact("kind"), _fact("invoice_id"), _fact("occurred_on", _DATE), _fact("amount_cents", pa.int64())),
        words={"kind": ("invoice", "payment", "reminder")},
    ),
    # Online service and contacts.
    "service_use": Register(facts=(_fact("service"), _fact("occurred_at", _TIME))),
    # The only way in for objections.
    "consent": Register(
        facts=(_fact("purpose"), _fact("channel"), _fact("action"), _fact("occurred_at", _TIME)),
        words={"action": ("given", "withdrawn", "objected")},
    ),
    "authority": Register(keys=_ANYBODY, attributes=(*_CONTACT, "deceased_on", "information_restriction")),
    "company": Register(keys=_ANYBODY, attributes=_CONTACT),
    "public_source": Register(keys=_ANYBODY, attributes=_CONTACT),
    # Customers' records in the datahub of the retail market (pipeline.sources.datahub_customers).
    "datahub_customer": Register(
        keys=("identity_code", "business_id"), attributes=(*_CONTACT, "information_restriction")
    ),
}

#: Of each attribute, the feeds that may say it.
SPEAKERS: dict[str, tuple[str, ...]] = {
    attribute: (
        *((CUSTOMERS_FEED,) if attribute != "deceased_on" else ()),
        *(name for name, register in REGISTERS.items() if attribute in register.attributes),
    )
    for attribute in ATTRIBUTES
}

#: What was said of customers' attributes, and what became of it (``transforms.resolve``).
PROVENANCE_SCHEMA = pa.schema(
    [
        pa.field("customer_id", _TEXT, nullable=False),
        pa.field("attribute", _TEXT, nullable=False),
        pa.field("value", _TEXT, nullable=False),
        pa.field("feed", _TEXT, nullable=False),
        pa.field("source", _TEXT, nullable=False),
        pa.field("received_at", _TIME),
        pa.field("outcome", _TEXT, nullable=False),
    ]
)
