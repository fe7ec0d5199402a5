"""Target groups by the load of months: against plain Python from the readings, through moves, objections, corrections."""

import json
import math
import random
from collections import defaultdict
from datetime import UTC, date, datetime, time, timedelta
from types import SimpleNamespace
from unittest.mock import patch
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from privacy_support import run
from register_feeds import write_register
from whole_job import ingest, make_keys, paths_of, rows_of

from pipeline import publish as publishing
from pipeline.begin import RunRequest
from pipeline.erasure import add_tombstones
from pipeline.journal import sole_committer
from pipeline.keys import open_keyset
from pipeline.lake import open_lake
from pipeline.policy_file import DEFAULT_POLICY, load_policy
from pipeline.publish import PublishRequest, run_publish
from pipeline.verify import verify_lake
from schemas.reference import CONTRACTS_SCHEMA, CUSTOMERS_SCHEMA, SITES_SCHEMA

HELSINKI = ZoneInfo("Europe/Helsinki")
MONTHS, MARKETING = "operational.months", "operational.marketing"
#: The newest month that the default policy publishes by today, and the day after it.
END = (datetime.now(HELSINKI).date() - timedelta(days=13)).replace(day=1)
NEWEST = (END - timedelta(days=1)).replace(day=1)
FIRST = (NEWEST - timedelta(days=1)).replace(day=1)
POINTS = [f"64300696602{number:07d}" for number in range(40)]
POSTAL_CODES = ("00100", "00200")
GROUPS = {
    "sunny": [("solar_sign", "is", "production")],
    "steady": [("load_factor", "at_least", 0.4), ("base_kw", "at_least", 1)],
    "nightly": [("night_share", "at_least", 0.45), ("heating", "is", "electric")],
    "weekly": [("weekend_ratio", "below", 0.9), ("utilisation_hours", "at_least", 100)],
    "peaky": [("peak_kw", "at_least", 7)],
}


class World:
    """A reference, and hourly readings of two months; whose they are by plain rules."""

    def __init__(self) -> None:
        self.sites, self.contracts, self.readings = [], [], {}
        for number, point in enumerate(POINTS):
            produces = number % 8 == 7  # beside the point before it
            draw = random.Random(number)
            self.sites.append({
                "metering_point_id": point, "site_id": f"S-{number - produces}", "heating": draw.choice(["electric", "wood"]),
                "municipality": "Helsinki", "postal_code": POSTAL_CODES[number >= 20],
                "direction": "production" if produces else "consumption",
            })  # fmt: skip
            night, weekend, spike = (
                draw.choice([1, 3]),
                draw.choice([0.7, 1.0]),
                draw.choice([2, 8]) if number != 20 else 8,
            )
            least = draw.choice([200_000, 1_500_000])
            for start in list_hours(FIRST, END):
                local = start.astimezone(HELSINKI)
                energy = least + draw.randrange(1_000_000)
                energy *= night if local.hour >= 22 or local.hour < 7 else 1
                energy = int(energy * (weekend if local.weekday() >= 5 else 1))
                self.readings[point, start] = energy + spike * 1_000_000 * (local.hour == 18 and local.day == 20)
            # Everybody has two points; the production point is the neighbour's who has the site.
            self.sign(f"C-{number // 2}", point, date(2020, 1, 1), None)
        self.move(20, NEWEST + timedelta(days=9))  # the one who moved in has more than half of the month
        self.move(22, NEWEST + timedelta(days=24))
        self.move(24, END)

    def sign(self, customer, point, begin, end) -> None:
        self.contracts.append({
            "contract_id": f"K-{len(self.contracts)}", "metering_point_id": point, "customer_id": customer, "tariff": "fixed",
            "valid_from": begin, "valid_to": end, "signed_at": datetime(2020, 1, 1, tzinfo=UTC),
        })  # fmt: skip

    def move(self, number, day) -> None:
        """End the contract of a point on a day, and have somebody else sign."""
        self.contracts[number]["valid_to"] = day
        self.sign(f"N-{number}", POINTS[number], day, None)

    @property
    def customers(self):
        return sorted({contract["customer_id"] for contract in self.contracts})

    def write_reference(self, folder, **registers) -> None:
        folder.mkdir(exist_ok=True)
        people = [
            {"customer_id": one, "kind": "person", "name": f"Name {one}", "information_restriction": one == "C-3"}
            for one in self.customers
        ]
        for name, rows, schema in (
            ("sites", self.sites, SITES_SCHEMA),
            ("contracts", self.contracts, CONTRACTS_SCHEMA),
            ("customers", people, CUSTOMERS_SCHEMA),
        ):
            pq.write_table(pa.Table.from_pylist(rows, schema), folder / f"{name}.parquet")
        today = datetime.now(UTC).date()
        bans = [{"phone": "+3581", "channel": channel, "list_version": today} for channel in ("telephone", "post")]
        for name, rows in ({"marketing_ban": bans} | registers).items():
            write_register(folder, name, rows)

    def indicators(self, first) -> dict:
        """Tell the indicators of each contract in the month that begins on a day, reading by reading."""
        parts = defaultdict(list)
        for (point, start), energy in self.readings.items():
            day = start.astimezone(HELSINKI).date()
            if day.replace(day=1) != first:
                continue
            for contract in self.contracts:
                held = contract["valid_from"] <= day < (contract["valid_to"] or date.max)
                if held and contract["metering_point_id"] == point:
                    parts[contract["contract_id"]].append((start.astimezone(HELSINKI), energy / 1e6))
        return {contract: tell(part) for contract, part in parts.items()}

    def groups(self, out=()) -> dict:
        """Tell the group of each customer whom marketing may reach, rule by rule."""
        days = (END - NEWEST).days
        indicators = self.indicators(NEWEST)
        heating = {site["metering_point_id"]: site for site in self.sites}
        told = {}
        producing = {
            (one["customer_id"], heating[one["metering_point_id"]]["site_id"])
            for one in self.contracts
            if one["contract_id"] in indicators and heating[one["metering_point_id"]]["direction"] == "production"
        }
        for customer in self.customers:
            if customer in out or customer == "C-3":
                continue
            rows = []
            for one in self.contracts:
                if one["customer_id"] == customer:
                    site = heating[one["metering_point_id"]]
                    row = {"heating": site["heating"]}
                    found = indicators.get(one["contract_id"])
                    if found and (customer, site["site_id"]) in producing:
                        row["solar_sign"] = "production"
                    if found and site["direction"] == "consumption" and found["hours"] >= days * 12:
                        row |= found
                    rows.append(row)
            told[customer] = next((name for name, rule in GROUPS.items() if any(fits(row, rule) for row in rows)), None)
        return told


def fits(row, rule) -> bool:
    tests = {"is": lambda a, b: a == b, "at_least": lambda a, b: a >= b, "below": lambda a, b: a < b}
    return all(feature in row and tests[test](row[feature], value) for feature, test, value in rule)


def tell(part) -> dict:
    energy, peak = sum(kwh for _, kwh in part), max(kwh for _, kwh in part)
    of_days = defaultdict(list)
    for at, kwh in part:
        of_days[at.date()].append(kwh)
    weekend = [kwh for at, kwh in part if at.weekday() >= 5]
    others = [kwh for at, kwh in part if at.weekday() < 5]
    return {
        "hours": len(part),
        "energy": energy,
        "peak_kw": peak,
        "base_kw": sum(map(min, of_days.values())) / len(of_days),
        "load_factor": energy / len(part) / peak,
        "utilisation_hours": energy / peak,
        "night_share": sum(kwh for at, kwh in part if at.hour >= 22 or at.hour < 7) / energy,
        "weekend_ratio": sum(weekend) / len(weekend) / (sum(others) / len(others)) if weekend and others else None,
    }


def list_hours(first, end):
    start, stop = (datetime.combine(day, time(), HELSINKI).astimezone(UTC) for day in (first, end))
    return [start + timedelta(hours=hour) for hour in range(int((stop - start).total_seconds()) // 3600)]


def write_readings(path, readings, registered) -> None:
    stamp, count = pa.timestamp("us", "UTC"), len(readings)
    columns = {
        "metering_point_id": [point for point, _ in readings],
        "start": pa.array([start for _, start in readings], stamp),
        "resolution_s": pa.array([3600] * count, pa.int32()),
        "registered_at": pa.array([registered] * count, stamp),
        "energy": pa.array(list(readings.values()), pa.int64()),
        "status": ["OK"] * count,
    }
    pq.write_table(pa.table(columns), path)


def publish(made):
    with patch("os.fsync"):
        return run_publish(PublishRequest(made.lake, RunRequest(**made.keys, threads=2)))


def verify(made):
    lake = open_lake(made.lake)
    found = verify_lake(lake, load_policy(lake.stored_policy()))
    assert found.violations == 0, found.describe()
    return [problem for check in found for _, problem, _ in check.places if check.name == "published"]


def groups_of(made) -> dict:
    return {row["customer_id"]: row["target_group"] for row in rows_of(made.lake, MARKETING).to_pylist()}


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A lake that has published its months, to be looked at."""
    made = make(tmp_path_factory.mktemp("published"))
    publish(made)
    return made


@pytest.fixture
def made(tmp_path):
    """A lake with two months of readings, not published yet."""
    return make(tmp_path)


def make(folder):
    document = yaml.safe_load(DEFAULT_POLICY.read_text(encoding="utf-8"))
    document["target_groups"] = {
        name: {"description": name, "when": [{"feature": feature, test: value} for feature, test, value in rule]}
        for name, rule in GROUPS.items()
    }
    # What is looked at derives from readings and months alone.
    left = {"operational.billing_daily", "operational.billing_intervals", "analytics.area_hourly"}
    document["datasets"] = {
        name: spec
        for name, spec in document["datasets"].items()
        if name not in left and (name == "analytics.partner_green" or not name.startswith("analytics."))
    }
    document["datasets"]["analytics.partner_green"]["epoch"] = "month"
    document["domains"] = {"partner-green": document["domains"]["partner-green"]}
    policy = folder / "policy.yaml"
    policy.write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), encoding="utf-8")
    world = World()
    world.write_reference(folder / "reference")
    write_readings(folder / "readings.parquet", world.readings, datetime.combine(END, time(), UTC))
    made = SimpleNamespace(folder=folder, lake=folder / "lake", keys=make_keys(folder), world=world)
    options = {"policy": policy, "reference": folder / "reference", "buckets": 2}
    ingest(made.lake, [folder / "readings.parquet"], made.keys, **options)
    return made


def refer(made, **registers) -> None:
    made.world.write_reference(made.folder / "reference", **registers)
    ingest(made.lake, [], made.keys, reference=made.folder / "reference")


def say(customer, action, at, purpose="profiling"):
    when = datetime.now(UTC) + timedelta(seconds=at)
    return {"customer_id": customer, "purpose": purpose, "channel": "any", "action": action, "occurred_at": when}


def test_indicators_and_groups_are_those_of_the_readings_and_only_of_ones_own(published):
    for first in (FIRST, NEWEST):
        wanted = published.world.indicators(first)
        rows = [row for row in rows_of(published.lake, MONTHS).to_pylist() if row["month"] == first]
        assert {row["contract_id"] for row in rows} == wanted.keys()
        for row in rows:
            told = wanted[row["contract_id"]]
            assert row["present_minutes"] == told["hours"] * 60
            for name in told.keys() - {"hours"}:
                assert (row[name] is None) == (told[name] is None), name
                assert told[name] is None or float(row[name]) == pytest.approx(told[name], abs=6e-3, rel=1e-4), name
    groups = groups_of(published)
    assert groups == published.world.groups()
    assert set(groups.values()) == {None, *GROUPS}
    assert verify(published) == []
    assert publish(published) is None
    assert groups_of(published) == groups


def test_who_moved_in_has_nothing_of_who_lived_there_before(published):
    groups = groups_of(published)
    by_customer = defaultdict(set)
    for row in rows_of(published.lake, MONTHS).to_pylist():
        by_customer[row["customer_id"]].add((row["metering_point_id"], row["month"]))
    assert by_customer["N-20"] == {(POINTS[20], NEWEST)}
    assert not by_customer["N-24"]  # moved in after the month
    assert groups["N-24"] is None
    assert groups["N-22"] is None  # moved in too late to know
    assert groups["N-20"] == published.world.groups()["N-20"] is not None


def test_shares_by_area_are_those_of_these_groups(published):
    done = run("policy", "groups", "--lake", published.lake, "--minimum", "2", "--json")
    assert done.code == 0
    places = {one["metering_point_id"]: one["postal_code"] for one in published.world.sites}
    area = {one["customer_id"]: places[one["metering_point_id"]] for one in published.world.contracts}
    groups = published.world.groups()
    shown = set()
    for row in json.loads(done.out):
        people = [name for name in groups if row["postal_code"] in {None, area[name]}]
        members = [name for name in people if groups[name] == row["target_group"]]
        if row["suppressed"] is None:
            assert (row["people"], row["members"]) == (len(people), len(members))
            shown.add((row["level"], row["target_group"]))
        else:
            assert row["members"] is None
    assert {group for level, group in shown if level == "postal_code"} >= {"nightly", "steady"}
    assert {group for level, group in shown if level == "all"} == set(GROUPS)


def test_the_risk_report_measures_what_an_attacker_could(published):
    keys = published.keys
    arguments = ["publish", "--lake", published.lake, "--keyset", keys["keyset"], "--kek", keys["kek"], "--again"]
    done = run(*arguments, "--json")
    report = json.loads(done.out)
    using = {one["metering_point_id"] for one in published.world.sites if one["direction"] == "consumption"}
    points = {one["contract_id"]: one["metering_point_id"] for one in published.world.contracts}
    curves = []
    for first in (FIRST, NEWEST):
        curve = defaultdict(int)
        for contract, told in published.world.indicators(first).items():
            if points[contract] in using:
                curve[points[contract]] += round(told["energy"])
        curves.append(curve)
    shares = {(row["measure"], row["known"]): row for row in report["risk"]}
    counts = list(curves[1].values())
    unique = sum(counts.count(one) == 1 for one in counts) / len(counts)
    assert shares["unicity", 1]["share"] == pytest.approx(unique, abs=1e-4)
    assert (shares["unicity", 1]["looked_at"], shares["unicity", 1]["among"]) == (len(using), len(using))
    assert [shares["unicity", known]["share"] for known in (2, 3, 4)] == [None] * 3  # an epoch has one month
    linked = 0
    for point, energy in curves[0].items():
        distance = {of: abs(math.asinh(energy) - math.asinh(other)) for of, other in curves[1].items()}
        nearest = [of for of, far in distance.items() if far == min(distance.values())]
        linked += (point in nearest) / len(nearest)
    assert shares["linkage", 1]["share"] == pytest.approx(linked / len(using), abs=1e-4)
    assert shares["linkage", 1]["epoch"] == f"{FIRST:%Y-%m} to {NEWEST:%Y-%m}"
    assert 0 < linked < len(using)
    assert {"unicity", "linkage"} == report["formulas"].keys()
    told = run(*arguments).out.decode()
    assert all(formula in told for formula in report["formulas"].values())


def test_marketing_gets_the_group_and_the_rule_and_nothing_of_the_curve(published):
    rules = {
        name: "; ".join(f"{feature} {test.replace('_', ' ')} {value}" for feature, test, value in rule)
        for name, rule in GROUPS.items()
    }
    rows = rows_of(published.lake, MARKETING).to_pylist()
    assert {row["reason"] for row in rows} == {None, *rules.values()}
    for row in rows:
        assert row["reason"] == rules.get(row["target_group"])
        assert not [value for value in row.values() if isinstance(value, (int, float))]


def test_an_objection_counts_at_once_and_so_does_its_end(made):
    assert set(groups_of(made).values()) == {None}  # no month is there, and nothing is known
    publish(made)
    before = groups_of(made)
    customer = min(name for name, group in before.items() if group)
    refer(made, consent=[say(customer, "objected", 0)])
    assert groups_of(made) == {name: group for name, group in before.items() if name != customer}
    refer(made, consent=[say(customer, "objected", 0), say(customer, "given", 1)])
    assert groups_of(made) == before
    assert verify(made) == []


def test_nobody_is_in_a_group_without_a_register_of_bans(made):
    publish(made)
    old = datetime.now(UTC).date() - timedelta(days=400)
    refer(made, marketing_ban=[{"phone": "+3581", "channel": "telephone", "list_version": old}])
    assert groups_of(made) == {}


def test_a_correction_lags_until_it_is_published(made):
    publish(made)
    before = groups_of(made)
    point = POINTS[20]  # of N-20, alone
    corrected = {
        (of, start): 1 for of, start in made.world.readings if of == point and start >= list_hours(NEWEST, END)[0]
    }
    write_readings(made.folder / "corrected.parquet", corrected, datetime.now(UTC))
    ingest(made.lake, [made.folder / "corrected.parquet"], made.keys)
    made.world.readings |= corrected
    wanted = made.world.groups()
    assert wanted["N-20"] != before["N-20"]
    assert groups_of(made) == before
    [lag] = set(verify(made))
    assert lag == "its cells have changed since; publish makes it again"
    months, shown = set(paths_of(made.lake, MONTHS)), paths_of(made.lake, "analytics.partner_green")
    assert publish(made)
    assert len(set(paths_of(made.lake, MONTHS)) - months) == 1  # its month and bucket alone
    assert paths_of(made.lake, "analytics.partner_green") == shown
    assert groups_of(made) == wanted
    assert verify(made) == []


@pytest.mark.parametrize("then", ["publish", "ingest"])
def test_who_dies_between_months_and_groups_leaves_these_to_the_next_run(made, then):
    with patch.object(publishing, "_regroup", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        publish(made)
    assert rows_of(made.lake, MONTHS).num_rows
    assert set(groups_of(made).values()) == {None}
    assert set(verify(made)) == {"target groups go by other months than there are; the next run derives them"}
    if then == "publish":
        publish(made)
    else:
        ingest(made.lake, [], made.keys)
    assert groups_of(made) == made.world.groups()
    assert verify(made) == []
    shown = paths_of(made.lake, MARKETING)
    ingest(made.lake, [], made.keys)
    assert paths_of(made.lake, MARKETING) == shown


@pytest.mark.parametrize("erased", [POINTS[20:21], POINTS], ids=["one", "everybody"])
def test_what_was_erased_leaves_months_and_groups(made, erased):
    publish(made)
    lake = open_lake(made.lake)
    keyset = open_keyset(made.keys["keyset"], made.keys["kek"])
    with sole_committer(lake):
        add_tombstones(lake, keyset, pa.array(erased), FIRST, END)
    ingest(made.lake, [made.folder / "readings.parquet"], made.keys)
    assert "its cells have changed since; publish makes it again" in verify(made)
    publish(made)
    made.world.readings = {key: energy for key, energy in made.world.readings.items() if key[0] not in erased}
    rows = rows_of(made.lake, MONTHS)
    assert set(rows["metering_point_id"].to_pylist()) == set(POINTS) - set(erased)
    assert groups_of(made) == made.world.groups()
    assert verify(made) == []
