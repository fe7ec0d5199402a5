"""Writes the reference of a fleet: sites, contracts and customers, all of them made up and easy to find in a leak.

Names, streets and addresses of e-mail carry a word and a code that nothing else has; identity codes have individual
numbers 900-999 only, which are for tests; telephone numbers begin with a zero that can't be dialled after +358.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.fleet import load
from pipeline.fleet.draws import Ints, draw_below
from pipeline.fleet.reference import OPEN, Bools, Fleet, name_numbers
from schemas.reference import CONTRACTS_SCHEMA, CUSTOMERS_SCHEMA, SITES_SCHEMA

#: Municipality, city as it is written in an address, postal code, grid area; large towns stand in several lines.
_PLACES = (
    ("Helsinki", "HELSINKI", "00100", "HKI"),
    ("Helsinki", "HELSINKI", "00530", "HKI"),
    ("Helsinki", "HELSINKI", "00840", "HKI"),
    ("Helsinki", "HELSINKI", "00990", "HKI"),
    ("Espoo", "ESPOO", "02100", "ESP"),
    ("Espoo", "ESPOO", "02770", "ESP"),
    ("Vantaa", "VANTAA", "01300", "VAN"),
    ("Tampere", "TAMPERE", "33100", "TRE"),
    ("Tampere", "TAMPERE", "33720", "TRE"),
    ("Turku", "TURKU", "20100", "TKU"),
    ("Oulu", "OULU", "90100", "OUL"),
    ("Jyväskylä", "JYVÄSKYLÄ", "40100", "JKL"),
    ("Kuopio", "KUOPIO", "70100", "KUO"),
    ("Lahti", "LAHTI", "15100", "LAH"),
    ("Porvoo", "PORVOO", "06100", "POR"),
    ("Hanko", "HANKO", "10900", "HAN"),
    ("Rovaniemi", "ROVANIEMI", "96100", "ROV"),
    ("Inari", "IVALO", "99800", "LAP"),
)
#: One site in so many lies in a very small place, where a postal code alone tells much.
_REMOTE_ONE_IN = 200
_REMOTE = ("Utsjoki", "UTSJOKI", "99980", "LAP")

#: Columns of few values; dictionaries of the others would take time and room.
_REPEATING = [
    *("direction", "postal_code", "city", "municipality", "building_type", "heating", "fuse_a", "grid_area"),
    *("tariff", "kind", "language", "source", "received_at", "campaign", "agreed_purpose", "interest", "channel"),
    *("list_version", "occurred_on", "service", "purpose", "action", "defaults", "latest_default_on"),
]

_GIVEN = ("Aino", "Väinö", "Helmi", "Onni", "Lumi", "Otso", "Kielo", "Tapio", "Åsa", "Sulo", "Máret", "Ilmari")
_STREETS = ("Kanariankuja", "Kanarianpolku", "Kanariankatu", "Kanariantie")
_TARIFFS = ("spot", "fixed", "indefinite")
_LANGUAGES = ("fi", "fi", "fi", "sv", "fi", "en")
_SYLLABLES = ("ka", "lo", "mi", "nu", "re", "sa", "ti", "vo", "hy", "jä")
#: Coprime to 10, so that stirring keeps numbers apart.
_STIR = 59_374_821
_CONTROL = "0123456789ABCDEFHJKLMNPRSTUVWXY"
_CENTURY_SIGNS = "-YXWVU"
#: Of new tenants, one in so many has the name of the old one.
_HOMONYM_ONE_IN = 20
#: Days of birth run through the years 1925-1999; the stride is coprime to their number, so every day comes once.
_FIRST_BIRTH, _BIRTH_DAYS, _BIRTH_STRIDE = np.datetime64("1925-01-01"), 27_393, 7_919
_BUSINESS_WEIGHTS = (7, 9, 10, 5, 8, 4, 2)


@dataclass(frozen=True, eq=False)
class Customers:
    """Customers of a fleet; all arrays are ``[customer]``.

    Attributes:
        fleet: the fleet.
        number: their numbers, ascending.
        site: usage site where they live, or one of those of a company.
        company: whether they are companies.
        paired: whether another customer has the same name and address.
    """

    fleet: Fleet
    number: Ints
    site: Ints
    company: Bools
    paired: Bools

    def take(self, chosen: Any) -> "Customers":
        """Choose some of them."""
        return Customers(self.fleet, self.number[chosen], self.site[chosen], self.company[chosen], self.paired[chosen])

    def draw(self, stream: str, one_in: int) -> Bools:
        """Draw one person in so many."""
        drawn: Bools = ~self.company & (draw_below(one_in, self.fleet.options.seed, stream, self.number) == 0)
        return drawn

    @property
    def phoneless(self) -> Bools:
        """Whether no phone of theirs is known to the company itself."""
        without: Bools = self.draw("no phone", 10) & bool(self.fleet.options.feeds)
        return without


def write_reference(fleet: Fleet, folder: Path) -> Customers:
    """Write ``sites.parquet``, ``contracts.parquet`` and ``customers.parquet``; gives the customers.

    In a fleet with feeds some customers have no phone, and some share name and address with another.
    """
    folder.mkdir(parents=True, exist_ok=True)
    known = np.flatnonzero(fleet.known)
    write_table(folder / "sites.parquet", SITES_SCHEMA, (_make_sites(fleet, part) for part in _cut(fleet, known)))
    write_table(
        folder / "contracts.parquet",
        CONTRACTS_SCHEMA,
        (_make_contracts(fleet, part, order) for part in _cut(fleet, known) for order in (0, 1)),
    )
    customers = list_customers(fleet)
    write_table(folder / "customers.parquet", CUSTOMERS_SCHEMA, map(make_customers, cut_customers(customers)))
    return customers


def cut_customers(customers: Customers) -> Iterator[Customers]:
    """Cut customers into parts that are worked on at a time."""
    return (customers.take(part) for part in _cut(customers.fleet, np.arange(len(customers.number))))


def write_table(path: Path, schema: pa.Schema, parts: Iterator[dict[str, Any]]) -> None:
    """Write parts of a feed to one file."""
    repeating = [name for name in _REPEATING if name in schema.names]
    options = {"compression": "zstd", "use_dictionary": repeating, "write_statistics": False}
    with pq.ParquetWriter(path, schema, **options) as writer:
        for columns in parts:
            writer.write_table(pa.table(columns, schema=schema))


def _cut(fleet: Fleet, indices: Ints) -> Iterator[Ints]:
    size = fleet.options.file_points
    return (indices[first : first + size] for first in range(0, len(indices), size))


def _make_sites(fleet: Fleet, points: Ints) -> dict[str, Any]:
    site, kind = fleet.site[points], fleet.archetype[points]
    kinds = load.ARCHETYPES
    return {
        "metering_point_id": fleet.name_points(points),
        "site_id": name_numbers("S", site),
        "direction": _pick(("consumption", "production"), fleet.producing[points].astype(np.int64)),
        **make_address(fleet, site),
        "municipality": _pick([place[0] for place in (*_PLACES, _REMOTE)], _place_sites(fleet, site)),
        "building_type": _pick([kind.building_type for kind in kinds], kind),
        "heating": _pick([kind.heating for kind in kinds], kind),
        "fuse_a": fleet.fuse_a[points].astype(np.int32),
        "grid_area": _pick([place[3] for place in (*_PLACES, _REMOTE)], _place_sites(fleet, site)),
    }


def _make_contracts(fleet: Fleet, points: Ints, order: int) -> dict[str, Any]:
    contracts = fleet.contracts[order]
    points = points[contracts.customer[points] >= 0]
    customer, valid_to = contracts.customer[points], contracts.valid_to[points]
    return {
        "contract_id": name_numbers("K", 2 * points + order),
        "metering_point_id": fleet.name_points(points),
        "customer_id": name_numbers("C", customer),
        "tariff": _pick(_TARIFFS, draw_below(len(_TARIFFS), fleet.options.seed, "tariff", customer)),
        "valid_from": pa.array(contracts.valid_from[points].astype(np.int32)).cast(pa.date32()),
        "valid_to": pa.array(np.where(valid_to == OPEN, 0, valid_to).astype(np.int32), mask=valid_to == OPEN).cast(
            pa.date32()
        ),
        "signed_at": pa.array(contracts.signed_at[points] * 1_000_000).cast(CONTRACTS_SCHEMA.field("signed_at").type),
    }


def list_customers(fleet: Fleet) -> Customers:
    """List the customers, each with the first metering point that tells where they live."""
    held = np.concatenate([contracts.customer for contracts in fleet.contracts])
    numbers, first = np.unique(held, return_index=True)
    numbers, points = numbers[numbers >= 0], first[numbers >= 0] % fleet.options.points
    company = fleet.archetype[points] == load.OFFICE
    # An old and a new tenant of one site; the new one's number is odd, and the next.
    later = (
        bool(fleet.options.feeds)
        & ~company
        & (numbers % 2 == 1)
        & np.isin(numbers - 1, numbers[~company])
        & (draw_below(_HOMONYM_ONE_IN, fleet.options.seed, "homonym", numbers) == 0)
    )
    paired = later | np.isin(numbers + 1, numbers[later])
    return Customers(fleet, numbers, fleet.site[points], company, paired)


def make_customers(customers: Customers) -> dict[str, Any]:
    """Make what the company knows itself: columns of ``CUSTOMERS_SCHEMA``."""
    fleet, numbers, company = customers.fleet, customers.number, customers.company
    seed = fleet.options.seed
    return {
        "customer_id": name_numbers("C", numbers),
        "kind": _pick(("person", "company"), company.astype(np.int64)),
        "name": make_names(customers),
        "identity_code": pc.if_else(company, None, make_identity_codes(numbers)),
        "business_id": pc.if_else(company, make_business_ids(numbers), None),
        "phone": pc.if_else(customers.phoneless, None, make_phones(numbers)),
        "email": pc.binary_join_element_wise("kanaria.", pc.utf8_lower(_spell(numbers)), "@posti.example", ""),
        **make_address(fleet, customers.site),
        "language": _pick(_LANGUAGES, draw_below(len(_LANGUAGES), seed, "language", numbers)),
        "information_restriction": ~company & (draw_below(40, seed, "restriction", numbers) == 0),
        "received_at": pa.nulls(len(numbers), CUSTOMERS_SCHEMA.field("received_at").type),
    }


def make_names(customers: Customers) -> Any:
    """Make the names of persons and companies; the later of a pair has the name of the earlier."""
    numbers = customers.number - (customers.paired & (customers.number % 2 == 1))
    code = _spell(numbers)
    given = _pick(_GIVEN, draw_below(len(_GIVEN), customers.fleet.options.seed, "given", numbers))
    person = pc.binary_join_element_wise(given, pc.binary_join_element_wise("Kanarialintunen", code, "-"), " ")
    firm = pc.binary_join_element_wise("Kanarialintula", code, "Oy", " ")
    return pc.if_else(customers.company, firm, person)


def make_phones(numbers: Ints) -> Any:
    """Make a telephone number of its own for each number."""
    return pc.binary_join_element_wise("+3580", _text(numbers + 700_000_000), "")


def make_identity_codes(numbers: Ints) -> Any:
    """Make a code of its own for each number: neighbours differ in nothing but the century's sign."""
    rest, sign = np.divmod(numbers, len(_CENTURY_SIGNS))
    rest, individual = np.divmod(rest, 100)
    birth = (_FIRST_BIRTH + rest * _BIRTH_STRIDE % _BIRTH_DAYS).astype("datetime64[D]")
    month = birth.astype("datetime64[M]")
    day = (birth - month).astype(np.int64) + 1
    year = birth.astype("datetime64[Y]").astype(np.int64) + 70
    date_digits = day * 10_000 + (month.astype(np.int64) % 12 + 1) * 100 + year
    individual += 900
    control = (date_digits * 1000 + individual) % len(_CONTROL)
    return pc.binary_join_element_wise(
        pc.utf8_lpad(_text(date_digits), 6, "0"),
        _pick(_CENTURY_SIGNS, sign),
        _text(individual),
        _pick(_CONTROL, control),
        "",
    )


def make_business_ids(numbers: Ints) -> Any:
    """Make a business id of its own for each number; one of two neighbouring numbers always has a check digit."""
    digits = 1_000_000 + 2 * (numbers % 4_500_000)
    remainder = _weigh(digits)
    digits = digits + (remainder == 1)
    remainder = _weigh(digits)
    return pc.binary_join_element_wise(_text(digits), _text((11 - remainder) % 11), "-")


def _weigh(digits: Ints) -> Ints:
    total = np.zeros_like(digits)
    for place, weight in enumerate(_BUSINESS_WEIGHTS):
        total += digits // 10 ** (6 - place) % 10 * weight
    return total % 11


def make_address(fleet: Fleet, site: Ints) -> dict[str, Any]:
    """Make the address of sites: the columns of ``postal_address``."""
    place = _place_sites(fleet, site)
    street = _pick(_STREETS, draw_below(len(_STREETS), fleet.options.seed, "street", site))
    return {
        "street_address": pc.binary_join_element_wise(street, _spell(site), _text(site % 90 + 1), " "),
        "postal_code": _pick([place[2] for place in (*_PLACES, _REMOTE)], place),
        "city": _pick([place[1] for place in (*_PLACES, _REMOTE)], place),
    }


def _place_sites(fleet: Fleet, site: Ints) -> Ints:
    seed = fleet.options.seed
    place = draw_below(len(_PLACES), seed, "place", site)
    return np.where(draw_below(_REMOTE_ONE_IN, seed, "remote", site) == 0, len(_PLACES), place)


def _spell(numbers: Ints) -> Any:
    """Spell each number below 10^8 as a word of its own of sixteen letters, such as ``Mikasajärelovonu``."""
    stirred = numbers * _STIR % 10**8
    syllables = [_pick(_SYLLABLES, stirred // 10**place % 10) for place in range(8)]
    return pc.utf8_capitalize(pc.binary_join_element_wise(*syllables, ""))


def _pick(words: Any, index: Any) -> Any:
    return pa.array(list(words)).take(pa.array(index))


def _text(numbers: Ints) -> Any:
    return pa.array(numbers).cast(pa.string())
