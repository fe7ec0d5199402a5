"""The compiled policy: an immutable plan of column operations per dataset. No decision is ever taken per row."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Literal

import pyarrow as pa

from schemas.views import PLACES, VIEWS, WITHHELD_BY
from transforms.limits import NO_LIMITS, Limits

Zone = Literal["operational", "analytics"]
Epoch = Literal["", "year", "quarter", "month"]
#: Final values of the Finnish market come within eleven days.
PUBLISH_AFTER_DAYS = 12
#: A text in every language of ``schemas.legal.LANGUAGES``.
Text = Mapping[str, str]

#: What can have a pseudonym, and the field of the views that identifies it.
ENTITIES = {"metering_point": "metering_point_id", "usage_site": "site_id", "customer": "customer_id"}


@dataclass(frozen=True, slots=True)
class Keep:
    """The value as it is."""


@dataclass(frozen=True, slots=True)
class Pseudonymise:
    """The pseudonym of the entity (``metering_point``, ``usage_site``, ``customer``) in the domain and epoch."""

    entity: str


@dataclass(frozen=True, slots=True)
class PostalPrefix:
    """The first digits of a postal code."""

    digits: int


@dataclass(frozen=True, slots=True)
class Band:
    """The band that a number falls into: ``<25``, ``25-34``, ``>=35`` for the edges 25 and 35."""

    edges: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Year:
    """The year of a date or time."""


@dataclass(frozen=True, slots=True)
class Round:
    """The nearest multiple of a step, in milliwatt-hours for energy."""

    step: int


@dataclass(frozen=True, slots=True)
class Mask:
    """All but the last characters replaced by ``*``."""

    keep_last: int


Rule = Keep | Pseudonymise | PostalPrefix | Band | Year | Round | Mask


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a dataset.

    Attributes:
        name: its name in the table.
        source: the field of the dataset's view that it is made from.
        rule: how.
        type: Arrow type in the file; UUIDs are ``pa.uuid()``.
        required: whether it is never null.
        doc: unit and meaning.
    """

    name: str
    source: str
    rule: Rule
    type: pa.DataType
    required: bool
    doc: str


@dataclass(frozen=True, slots=True)
class Anonymity:
    """How many sites share what a dataset tells of a site.

    Attributes:
        k: fewest sites.
        columns: the dataset's columns that are made coarser, the one that stays exact the longest first.
    """

    k: int
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Disclosure:
    """When a sum over sites may be shown.

    Attributes:
        minimum: fewest sites.
        dominance: greatest share of the sum that one of them may have, 0 to 1.
    """

    minimum: int
    dominance: float


@dataclass(frozen=True, slots=True)
class Dataset:
    """One output table.

    Attributes:
        name: ``operational.readings``, ``analytics.daily`` …; zone and table joined by a dot.
        zone: which of the two roots holds it.
        view: the view of ``schemas.views.VIEWS`` that it selects from.
        audience: roles that may read it, or the one recipient whose it is.
        purposes: purposes for which they may.
        domain: pseudonymisation domain; empty where nothing is pseudonymised.
        epoch: period after which its pseudonyms change.
        where: field of the view to the one value that its rows must have.
        retention_days: how long a row is kept after its local date, or None.
        columns: its columns, in order. Field ids of the table are their positions, from 1.
        anonymity: how many sites share what is told of one, or None.
        disclosure: when its sums may be shown, or None where it has none.
    """

    name: str
    zone: Zone
    view: str
    audience: frozenset[str]
    purposes: frozenset[str]
    domain: str
    epoch: Epoch
    where: Mapping[str, str | bool]
    retention_days: int | None
    columns: tuple[Column, ...]
    anonymity: Anonymity | None = None
    disclosure: Disclosure | None = None

    @property
    def withholds(self) -> bool:
        """Whether it leaves out people who may not be shown, so that nobody may ask for its earlier states."""
        # Of who may not be reached, the view of marketing has nothing to show, whatever its datasets select; nor have
        # those of points where people under an information restriction live.
        told = {*self.where, *(column.source for column in self.columns)}
        return not (WITHHELD_BY.isdisjoint(self.where) and told.isdisjoint(PLACES)) or "marketable" in VIEWS[self.view]


@dataclass(frozen=True, slots=True)
class Controller:
    """Who answers for the processing.

    Attributes:
        name: of the company.
        contact: where data subjects turn to.
        business_id: of the company, or empty.
    """

    name: str
    contact: str
    business_id: str = ""


@dataclass(frozen=True, slots=True)
class Purpose:
    """What data is processed for.

    Attributes:
        legal_basis: one of ``schemas.legal.LEGAL_BASES``.
        ground: which law, task or interest; may be empty where the basis needs none.
        origin: ``statement`` where the privacy statement names it, ``company`` where the company adds it.
        description: what is done.
        classes: field classes that it needs.
    """

    legal_basis: str
    ground: Text
    origin: str
    description: Text
    classes: frozenset[str]


@dataclass(frozen=True, slots=True)
class Recipient:
    """Somebody outside the company who is given data.

    Attributes:
        kind: one of ``schemas.legal.RECIPIENT_KINDS``.
        description: who, and what for.
        disclosed_by: roles that may hand data out to them.
    """

    kind: str
    description: Text
    disclosed_by: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Condition:
    """What a rule of a target group asks for.

    Attributes:
        feature: of ``schemas.features.FEATURES``.
        test: ``is``, ``at_least`` or ``below``.
        value: what it is compared with.
    """

    feature: str
    test: str
    value: str | int | float


@dataclass(frozen=True, slots=True)
class TargetGroup:
    """Whom marketing addresses together.

    Attributes:
        description: who they are.
        conditions: all of which must hold.
    """

    description: Text
    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole policy, compiled.

    Attributes:
        digest: SHA-256 of what the policy says of rows, hex; of who may read them, why and how long, nothing counts.
        datasets: by name.
        roles: role to description.
        purposes: by name.
        grants: user or ``@group`` of the operating system to roles; ``*`` is everybody.
        controller: who answers for the processing.
        recipients: by name.
        sources: feed in use (``readings``, or of ``schemas.reference``) to what it is.
        classes: field of the views to its class, where the policy says it.
        domains: pseudonymisation domain to its audience.
        target_groups: by name, in the order in which they are tried.
        ban_list_days: how old the register of marketing bans may be; older, nobody is marketable.
        limits: what makes a run warn, or stop.
        publish_after_days: how old a local day must be for sums over it to be published; values still change before.
        resolution: attribute of customers (``schemas.registers``) to the feeds that are heard, the first wins; without
            an entry the customers' own feed alone.
    """

    digest: str
    datasets: Mapping[str, Dataset]
    roles: Mapping[str, Text]
    purposes: Mapping[str, Purpose]
    grants: Mapping[str, frozenset[str]]
    controller: Controller
    recipients: Mapping[str, Recipient] = field(default_factory=dict)
    sources: Mapping[str, Text] = field(default_factory=dict)
    classes: Mapping[str, str] = field(default_factory=dict)
    domains: Mapping[str, frozenset[str]] = field(default_factory=dict)
    target_groups: Mapping[str, TargetGroup] = field(default_factory=dict)
    ban_list_days: int = 0
    limits: Limits = NO_LIMITS
    publish_after_days: int = PUBLISH_AFTER_DAYS
    resolution: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def epoch_label(epoch: Epoch, local_date: date) -> str:
    """Name the epoch of a local date: empty, ``2026``, ``2026-Q1`` or ``2026-01``."""
    match epoch:
        case "":
            return ""
        case "year":
            return f"{local_date.year:04d}"
        case "quarter":
            return f"{local_date.year:04d}-Q{(local_date.month + 2) // 3}"
        case "month":
            return f"{local_date.year:04d}-{local_date.month:02d}"
