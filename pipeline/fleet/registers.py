"""Writes the registers of a fleet, and what every customer must come out as by the default order of sources.

Planted are people who moved, died, or may not be disclosed; homonyms at one address; wrong phones; bans on a current
and on a stale list; objections; and strangers, who are nobody's. All of it belongs to the customer's number.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.fleet.draws import Ints, draw_below
from pipeline.fleet.reference import Bools, name_numbers
from pipeline.fleet.register import (
    Customers,
    cut_customers,
    make_address,
    make_business_ids,
    make_customers,
    make_identity_codes,
    make_phones,
)
from schemas.reference import RESOLVED_SCHEMA
from schemas.registers import REGISTERS

TRUTH_FILE = "truth-customers.parquet"
#: What the truth says of each customer: resolved attributes, and what registers' facts come to.
TRUTH_SCHEMA = pa.schema(
    [
        *(field for field in RESOLVED_SCHEMA if field.name != "received_at"),
        pa.field("banned_by_telephone", pa.bool_()),
        pa.field("banned_by_post", pa.bool_()),
        pa.field("objected", pa.bool_()),
        pa.field("defaults", pa.int32()),
    ]
)
#: Sites that nobody is metered at: new addresses of those who moved, and those between.
_ELSEWHERE, _BETWEEN = 20_000_000, 30_000_000
#: Strangers of a register, for so many customers one.
_STRANGERS_ONE_IN = 50
#: Age in days of the lists of marketing bans: the current one, and the one that is out of date.
_CURRENT, _STALE = 20, 400
_DAY_US = 86_400_000_000


@dataclass(frozen=True, eq=False)
class _Part:
    """Customers that are worked on at a time; what befell each is drawn once, for the feeds and the truth alike."""

    customers: Customers
    strangers: Ints
    counts: defaultdict[str, dict[str, int]] = field(repr=False)

    @cached_property
    def own(self) -> dict[str, Any]:
        return make_customers(self.customers)

    @cached_property
    def today(self) -> int:
        return self.customers.fleet.options.start.toordinal() - 719_163

    @property
    def alone(self) -> Bools:
        """Persons who can be told by name and address."""
        return ~self.customers.paired

    def draw(self, stream: str, one_in: int) -> Bools:
        return self.customers.draw(stream, one_in)

    @cached_property
    def moved(self) -> Bools:
        return self.draw("moved", 20)

    @cached_property
    def died(self) -> Bools:
        return self.draw("died", 200)

    @cached_property
    def undisclosed(self) -> Bools:
        return self.draw("non-disclosure", 250)

    @cached_property
    def lifted(self) -> Bools:
        return self.draw("lifted", 1000) & ~self.undisclosed

    @cached_property
    def listed(self) -> Bools:
        """Persons in the telephone directory."""
        return self.draw("directory", 3)

    @cached_property
    def banned(self) -> tuple[Bools, Bools]:
        """Persons on a list of bans: by telephone, by post."""
        return self.draw("no calls", 7) & ~self.customers.phoneless, self.draw("no post", 10)

    @cached_property
    def objected(self) -> Bools:
        return self.draw("objected", 20)

    @cached_property
    def in_default(self) -> Bools:
        return self.draw("in default", 33)

    @cached_property
    def veiled(self) -> Bools:
        """Persons whom the datahub of the market knows to be undisclosed."""
        return self.draw("veiled", 1000)

    @cached_property
    def guarded(self) -> Bools:
        """Persons whom an authority wants undisclosed, told by name and address."""
        return self.draw("guarded", 2000)

    def make(self, feed: str, chosen: Bools, source: str, days_ago: int, **columns: Any) -> pa.Table:
        """Make rows about the customers chosen; columns that are not given are null."""
        schema, rows = REGISTERS[feed].schema, int(np.count_nonzero(chosen))
        seed, numbers = self.customers.fleet.options.seed, self.customers.number[chosen]
        received = (self.today - days_ago) * _DAY_US - draw_below(3600, seed, feed, numbers) * 1_000_000
        given = {"source": pa.repeat(source, rows), "received_at": pa.array(received), **columns}
        mask = pa.array(chosen)
        arrays = []
        for name in schema.names:
            value = given.get(name)
            if isinstance(value, pa.Array | pa.ChunkedArray):
                column = value if len(value) == rows else value.filter(mask)
            else:
                column = pa.repeat(pa.scalar(value, schema.field(name).type), rows)
            arrays.append(column.cast(schema.field(name).type))
        return pa.table(arrays, schema=schema)

    def make_strangers(self, feed: str, source: str, **columns: Any) -> pa.Table:
        """Make rows about people who are nobody here."""
        count = len(self.strangers)
        self.count(feed, nobody=count)
        customers = Customers(
            self.customers.fleet, self.strangers, self.strangers, np.zeros(count, np.bool_), np.zeros(count, np.bool_)
        )
        return _Part(customers, self.strangers, self.counts).make(feed, np.ones(count, np.bool_), source, 30, **columns)

    def count(self, feed: str, **counts: np.integer[Any] | int) -> None:
        told = self.counts[feed]
        for name, number in counts.items():
            told[name] = told.get(name, 0) + int(number)

    def of(self, *names: str) -> dict[str, Any]:
        """Give columns of what the company knows itself."""
        return {name: self.own[name] for name in names}


_ADDRESS = ("street_address", "postal_code", "city")


def write_registers(customers: Customers, out: Path) -> dict[str, dict[str, int]]:
    """Write the feeds that the fleet's options name, and ``truth-customers.parquet``.

    Args:
        customers: the fleet's customers.
        out: folder of the fleet.

    Returns:
        Feed to how many ``rows`` it has, and how many of them must be ``nobody`` or ``ambiguous``.
    """
    counts: defaultdict[str, dict[str, int]] = defaultdict(dict)
    feeds = sorted(customers.fleet.options.feeds)
    first_stranger = int(customers.number.max(initial=0)) + 2
    options = {"compression": "zstd", "write_statistics": False}
    with ExitStack() as stack:
        writers = {
            name: stack.enter_context(
                pq.ParquetWriter(out / "reference" / f"{name}.parquet", REGISTERS[name].schema, **options)
            )
            for name in feeds
        }
        truth = stack.enter_context(pq.ParquetWriter(out / TRUTH_FILE, TRUTH_SCHEMA, **options))
        for chosen in cut_customers(customers):
            strangers = first_stranger + np.arange(1 + len(chosen.number) // _STRANGERS_ONE_IN)
            first_stranger += len(strangers)
            part = _Part(chosen, strangers, counts)
            for name, writer in writers.items():
                for table in _MAKERS[name](part):
                    part.count(name, rows=table.num_rows)
                    writer.write_table(table)
            truth.write_table(_tell(part))
    return dict(counts)


def _make_campaign(part: _Part) -> Iterator[pa.Table]:
    phoneless = part.customers.phoneless
    agreed = {"campaign": "spring", "agreed_purpose": "direct_marketing"}
    took_part = part.draw("took part", 10)
    # By name and address where the company knows no phone; then homonyms can't be told apart.
    called, written = took_part & ~phoneless, took_part & phoneless
    yield part.make(
        "campaign",
        called,
        "spring raffle",
        60,
        **agreed,
        kind="raffle",
        interest="solar",
        **part.of("name", "phone"),
        email=pc.binary_join_element_wise("toinen.", part.own["email"], ""),
    )
    yield part.make(
        "campaign",
        written,
        "spring event",
        61,
        **agreed,
        kind="event",
        interest="heat pump",
        **part.of("name", *_ADDRESS),
    )
    wrong = part.draw("wrong phone", 100) & ~phoneless
    yield part.make(
        "campaign",
        wrong,
        "spring competition",
        59,
        **agreed,
        kind="competition",
        **part.of("name", *_ADDRESS),
        phone=make_phones(part.customers.number + 2),
    )
    lost = part.draw("wrong phone, no address", 200) & ~phoneless
    yield part.make(
        "campaign",
        lost,
        "spring competition",
        58,
        **agreed,
        kind="competition",
        **part.of("name"),
        phone=make_phones(part.customers.number + 2),
    )
    part.count("campaign", ambiguous=np.count_nonzero((wrong | written) & part.customers.paired))
    part.count("campaign", nobody=np.count_nonzero(lost))


def _make_population(part: _Part) -> Iterator[pa.Table]:
    feed, fleet = "population_register", part.customers.fleet
    code = {"identity_code": part.own["identity_code"]}
    between = part.moved & (part.customers.number % 4 < 2)
    yield part.make(feed, between, "DVV", 100, **code, **make_address(fleet, part.customers.site + _BETWEEN))
    yield part.make(feed, part.moved, "DVV", 10, **code, **make_address(fleet, part.customers.site + _ELSEWHERE))
    yield part.make(feed, part.died, "DVV", 9, **code, deceased_on=_date(part.today - 12))
    yield part.make(feed, part.undisclosed | part.lifted, "DVV", 90, **code, information_restriction=True)
    yield part.make(feed, part.lifted, "DVV", 5, **code, information_restriction=False)
    yield part.make_strangers(
        feed, "DVV", identity_code=make_identity_codes(part.strangers), information_restriction=True
    )


def _make_credit(part: _Part) -> Iterator[pa.Table]:
    feed, told = "credit_register", {"latest_default_on": _date(part.today - 200)}
    defaults = pa.array(part.customers.number % 4 + 1)
    yield part.make(
        feed, part.in_default, "register", 15, identity_code=part.own["identity_code"], defaults=defaults, **told
    )
    yield part.make_strangers(feed, "register", business_id=make_business_ids(part.strangers), defaults=1, **told)


def _make_directory(part: _Part) -> Iterator[pa.Table]:
    feed, phoneless = "telephone_directory", part.customers.phoneless
    stale = part.draw("stale number", 5) & ~phoneless
    numbers = part.customers.number + 2 * stale
    yield part.make(feed, part.listed, "directory", 40, **part.of("name", *_ADDRESS), phone=make_phones(numbers))
    part.count(feed, ambiguous=np.count_nonzero(part.listed & part.customers.paired))


def _make_bans(part: _Part) -> Iterator[pa.Table]:
    feed, (by_telephone, by_post) = "marketing_ban", part.banned
    current = part.customers.number % 10 < 9
    for age, chosen in ((_CURRENT, current), (_STALE, ~current)):
        told = {"list_version": _date(part.today - age)}
        yield part.make(feed, by_telephone & chosen, "ban list", age, channel="telephone", **part.of("phone"), **told)
        yield part.make(feed, by_post & chosen, "ban list", age, channel="post", **part.of("name", *_ADDRESS), **told)
    yield part.make_strangers(
        feed,
        "ban list",
        channel="telephone",
        phone=make_phones(part.strangers),
        list_version=_date(part.today - _CURRENT),
    )


def _make_payments(part: _Part) -> Iterator[pa.Table]:
    everybody = np.ones(len(part.customers.number), np.bool_)
    seed, numbers = part.customers.fleet.options.seed, part.customers.number
    amount = pa.array(2000 + draw_below(30_000, seed, "amount", numbers))
    invoice = {"invoice_id": name_numbers("L", numbers), "amount_cents": amount, **part.of("customer_id")}
    late = draw_below(10, seed, "late", numbers) == 0
    for kind, chosen, age in (("invoice", everybody, 50), ("reminder", late, 25), ("payment", everybody, 20)):
        yield part.make("payment", chosen, "ledger", age, kind=kind, occurred_on=_date(part.today - age), **invoice)


def _make_uses(part: _Part) -> Iterator[pa.Table]:
    for service, one_in, age in (("online_service", 2, 3), ("telephone", 10, 8)):
        told = {"service": service, "occurred_at": _time(part.today - age), **part.of("customer_id")}
        yield part.make("service_use", part.draw(service, one_in), "crm", age, **told)


def _make_consents(part: _Part) -> Iterator[pa.Table]:
    for action, chosen, age in (
        ("given", part.draw("consented", 3), 300),
        ("withdrawn", part.draw("withdrew", 60), 100),
        ("objected", part.objected, 50),
    ):
        told = {"purpose": "direct_marketing", "channel": "any", "action": action, **part.of("customer_id")}
        yield part.make("consent", chosen, "crm", age, occurred_at=_time(part.today - age), **told)


def _make_authority(part: _Part) -> Iterator[pa.Table]:
    told = {"information_restriction": True, **part.of("name", *_ADDRESS)}
    yield part.make("authority", part.guarded, "police", 30, **told)
    part.count("authority", ambiguous=np.count_nonzero(part.guarded & part.customers.paired))


def _make_company(part: _Part) -> Iterator[pa.Table]:
    chosen = part.customers.company & (part.customers.number % 3 == 0)
    yield part.make(
        "company", chosen, "trade register", 30, **part.of("business_id"), name=pc.utf8_upper(part.own["name"])
    )


def _make_public(part: _Part) -> Iterator[pa.Table]:
    chosen = part.draw("public", 100) & ~part.customers.phoneless
    mail = pc.binary_join_element_wise("vanha.", part.own["email"], "")
    yield part.make("public_source", chosen, "web", 500, **part.of("phone"), email=mail)


def _make_datahub(part: _Part) -> Iterator[pa.Table]:
    feed = "datahub_customer"
    same = part.of("identity_code", "business_id", "name", "phone", "language", *_ADDRESS)
    chosen = part.customers.number % 5 == 0
    yield part.make(feed, chosen | part.veiled, "Datahub", 4, **same, information_restriction=pa.array(part.veiled))
    yield part.make_strangers(
        feed, "Datahub", business_id=make_business_ids(part.strangers), information_restriction=False
    )


_MAKERS: dict[str, Callable[[_Part], Iterator[pa.Table]]] = {
    "campaign": _make_campaign,
    "population_register": _make_population,
    "credit_register": _make_credit,
    "telephone_directory": _make_directory,
    "marketing_ban": _make_bans,
    "payment": _make_payments,
    "service_use": _make_uses,
    "consent": _make_consents,
    "authority": _make_authority,
    "company": _make_company,
    "public_source": _make_public,
    "datahub_customer": _make_datahub,
}


def _tell(part: _Part) -> pa.Table:
    """Say what must come out of the feeds that are there."""
    customers, feeds = part.customers, part.customers.fleet.options.feeds

    def where(feed: str, mask: Bools) -> Bools:
        return mask & (feed in feeds)

    def with_namesake(mask: Bools, stream: str, one_in: int) -> Bools:
        """Mark the other of a pair too: what is said by name and address may mean either."""
        other = np.where(customers.number % 2 == 1, customers.number - 1, customers.number + 1)
        drawn = draw_below(one_in, customers.fleet.options.seed, stream, other) == 0
        either: Bools = mask | (customers.paired & drawn)
        return either

    moved = where("population_register", part.moved)
    elsewhere = make_address(customers.fleet, customers.site + _ELSEWHERE)
    found = where("telephone_directory", part.listed & part.alone & customers.phoneless)
    by_telephone, by_post = part.banned
    restricted = where("population_register", part.undisclosed)
    restricted |= where("datahub_customer", part.veiled)
    restricted |= where("authority", with_namesake(part.guarded, "guarded", 2000))
    died = where("population_register", part.died)
    owing = where("credit_register", part.in_default)
    columns = {
        **part.own,
        **{name: pc.if_else(moved, elsewhere[name], part.own[name]) for name in _ADDRESS},
        "phone": pc.if_else(found, make_phones(customers.number), part.own["phone"]),
        "information_restriction": restricted | part.own["information_restriction"],
        "deceased_on": pc.if_else(died, _date(part.today - 12), pa.scalar(None, pa.date32())),
        "banned_by_telephone": where("marketing_ban", by_telephone),
        "banned_by_post": where("marketing_ban", with_namesake(by_post, "no post", 10)),
        "objected": where("consent", part.objected),
        "defaults": pa.array((customers.number % 4 + 1).astype(np.int32), mask=~owing),
    }
    return pa.table([columns[name] for name in TRUTH_SCHEMA.names], schema=TRUTH_SCHEMA)


def _date(day: int) -> pa.Scalar:
    return pa.scalar(day, pa.int32()).cast(pa.date32())


def _time(day: int) -> pa.Scalar:
    return pa.scalar(day * _DAY_US, pa.int64()).cast(pa.timestamp("us", tz="UTC"))
