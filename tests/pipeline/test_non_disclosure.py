"""People whose details may not be disclosed: where they were shown before is empty of them, on the disk and in history."""

import os
import uuid
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import patch

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from whole_job import ingest, make_keys, query

from pipeline import journal
from pipeline.access import User
from pipeline.errors import MeterveilError
from pipeline.fleet.generate import generate_fleet
from pipeline.fleet.options import FleetOptions
from pipeline.keys import SECRET_ACCESS, open_keyset
from pipeline.lake import Lake, open_lake
from pipeline.leaks import Tokens, find_leaks
from pipeline.lease import leased
from pipeline.policy_file import DEFAULT_POLICY, load_policy
from pipeline.query import run_query
from pipeline.verify import verify_lake
from transforms.customers import join_address
from transforms.pseudonym import derive_subkey, pseudonymise

PLAN = load_policy(DEFAULT_POLICY)
WITHHOLDING = sorted(name for name, dataset in PLAN.datasets.items() if dataset.withholds)
#: Customers, and how many of them are planted.
SIZE, PLANTED = (50_000, 100) if os.environ.get("METERVEIL_TEST_LARGE") else (1_200, 12)
FEEDS = frozenset({"population_register", "marketing_ban", "consent"})
#: In whatever groups the policy has grants for.
EVERYBODY = User("anna", frozenset(name.removeprefix("@") for name in PLAN.grants if name.startswith("@")))


class World:
    """A lake of some customers, its reference, and what is planted in it."""

    def __init__(self, folder: Path) -> None:
        start = datetime.now(UTC).date() - timedelta(days=3)
        generate_fleet(FleetOptions(points=SIZE, days=1, start=start, format="parquet", feeds=FEEDS), folder)
        self.folder, self.path, self.keys = folder, folder / "lake", make_keys(folder)
        readings = sorted((folder / "readings").iterdir())
        self.first = ingest(self.path, readings, self.keys, reference=folder / "reference", buckets=4)

    @property
    def lake(self) -> Lake:
        return open_lake(self.path)

    def read(self, feed: str) -> pa.Table:
        return pq.read_table(self.folder / "reference" / f"{feed}.parquet")

    def say(self, codes: list[str], *, restricted: bool) -> None:
        """Let the population register say of some people that they are restricted, or are no longer."""
        known = self.read("population_register")
        said = [
            {"source": "DVV", "received_at": datetime.now(UTC), "identity_code": code, "information_restriction": restricted}
            for code in codes
        ]  # fmt: skip
        rows = pa.concat_tables([known, pa.Table.from_pylist(said, schema=known.schema)])
        pq.write_table(rows, self.folder / "reference" / "population_register.parquet")

    def ingest(self) -> str:
        """Ingest the reference as it is now; the id of the run."""
        return ingest(self.path, [], self.keys, reference=self.folder / "reference")["run_id"]

    def where(self, tokens: Tokens) -> set[str]:
        """Decode everything in the folder of every table, current or not; the tables with a token somewhere."""
        return {name for name in self.lake.table_names() if find_leaks(self.lake.table_folder(name), tokens)}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def planted(world) -> tuple[list[str], Tokens]:
    """Identity codes of people whom everybody may see, and what tells them and their homes apart from all others."""
    customers, sites, contracts = world.read("customers"), world.read("sites"), world.read("contracts")
    shown = pq.read_table([file.path for file in world.lake.state("operational.marketing").files()])
    seen = pc.is_in(customers["customer_id"], shown["customer_id"].combine_chunks())
    chosen = customers.filter(pc.and_(seen, customers["identity_code"].is_valid()))[:PLANTED]
    assert chosen.num_rows == PLANTED
    words: Counter[str] = Counter()
    everybody: Counter[str] = Counter()
    home = sites.append_column("address", join_address(sites["street_address"], sites["postal_code"], sites["city"]))
    for people, count in ((chosen, words), (customers, everybody)):
        address = join_address(people["street_address"], people["postal_code"], people["city"])
        places = contracts.filter(pc.is_in(contracts["customer_id"], people["customer_id"].combine_chunks()))
        # Who lived there before, or does after, is shown with that place: the place of one tenant alone is a token.
        at = home["address"].take(pc.index_in(places["metering_point_id"], home["metering_point_id"].combine_chunks()))
        for values in (people["name"], people["phone"], address, at):
            count.update(value for value in values.to_pylist() if value)
    own = [word for word, times in words.items() if times == everybody[word]]
    assert len(own) > 2 * PLANTED
    return chosen["identity_code"].to_pylist(), Tokens(own)


#: Tables that tell of pseudonyms in what area they are, and the domains of these.
PLACED = {"analytics.daily": "product-development", "analytics.grid_planning": "grid-planning"}


def pseudonyms_of_homes(world: World, codes: list[str], domain: str) -> set[uuid.UUID]:
    """Under which pseudonyms the metering points are that these people have, or had, a contract for."""
    customers, contracts, sites = world.read("customers"), world.read("contracts"), world.read("sites")
    people = customers.filter(pc.is_in(customers["identity_code"], pa.array(codes)))["customer_id"]
    theirs = contracts.filter(pc.is_in(contracts["customer_id"], people.combine_chunks()))["metering_point_id"]
    homes = sites.filter(pc.is_in(sites["metering_point_id"], theirs.combine_chunks()))["site_id"].combine_chunks()
    points = sites.filter(pc.is_in(sites["site_id"], homes))["metering_point_id"].combine_chunks()
    secret = open_keyset(world.keys["keyset"], world.keys["kek"]).primary.secret.reveal(SECRET_ACCESS)
    made = pseudonymise(derive_subkey(secret, domain, "metering_point", ""), points)
    return {uuid.UUID(bytes=octets) for octets in made.to_pylist()}


def areas_told(world: World, table: str, pseudonyms: set[uuid.UUID]) -> set[str]:
    """Read every file in a table's folder, current or not: the areas that rows of these pseudonyms tell."""
    files = [str(path) for path in world.lake.table_folder(table).rglob("*.parquet")]
    with duckdb.connect() as connection:
        rows = connection.from_parquet(files, hive_partitioning=False)
        told = rows.filter("postal_area IS NOT NULL").project("metering_point, postal_area").distinct().fetchall()
    assert len(told) > len(pseudonyms)  # of others something is told
    return {area for point, area in told if point in pseudonyms}


def test_of_where_they_live_no_row_and_no_file_tells_even_coarsely(world, planted):
    codes, _ = planted
    world.say(codes, restricted=False)  # whichever test came first
    world.ingest()
    homes = {table: pseudonyms_of_homes(world, codes, domain) for table, domain in PLACED.items()}
    sums = query(world.path, "analytics.daily", "SELECT count(*), sum(energy) FROM t")
    assert all(areas_told(world, table, homes[table]) for table in PLACED)

    world.say(codes, restricted=True)
    world.ingest()
    assert not any(areas_told(world, table, homes[table]) for table in PLACED)
    # Their days stay, and k is of what is told.
    assert query(world.path, "analytics.daily", "SELECT count(*), sum(energy) FROM t") == sums
    shared = """
        SELECT count(DISTINCT site) FROM t WHERE coalesce(heating, fuse_band, postal_area) IS NOT NULL
        GROUP BY local_date, heating, fuse_band, postal_area
    """
    assert min(query(world.path, "analytics.daily", shared)) >= (5,)
    assert_sound(world)

    world.say(codes, restricted=False)
    world.ingest()
    assert all(areas_told(world, table, homes[table]) for table in PLACED)


def assert_sound(world: World) -> None:
    assert [place for check in verify_lake(world.lake, PLAN) for place in check.places] == []


def test_a_restriction_empties_every_table_and_its_history_and_its_end_brings_them_back(world, planted):
    codes, tokens = planted
    personal = {"operational.customer_service", "operational.collections", "operational.marketing"}
    world.say(codes, restricted=False)  # whichever test came first
    world.ingest()
    assert personal | {"operational.field_work"} <= world.where(tokens)
    world.say(codes[:1], restricted=False)
    second = world.ingest()  # a state more, in which all of them still are
    assert personal <= world.where(tokens)

    world.say(codes, restricted=True)
    third = world.ingest()
    assert world.where(tokens) == set()
    assert all(len(world.lake.state(name).snapshots) == 1 for name in WITHHOLDING)
    assert_sound(world)
    for as_of in (world.first["run_id"], second, third):
        for name, dataset in PLAN.datasets.items():
            for role in dataset.audience & PLAN.roles.keys():
                purpose = min(dataset.purposes)
                sql = f"SELECT * FROM {name}"
                if dataset.withholds:
                    with pytest.raises(MeterveilError, match="shows only whom it may show today"):
                        run_query(world.lake, PLAN, role, purpose, sql, EVERYBODY, as_of)
                else:
                    rows = run_query(world.lake, PLAN, role, purpose, sql, EVERYBODY, as_of)
                    assert not tokens.find(str(rows.slice(0, 50_000).to_pydict()).encode())

    world.say(codes, restricted=False)
    world.ingest()
    assert personal | {"operational.field_work"} <= world.where(tokens)


@pytest.mark.parametrize("step", ["_finish", "record_digests"], ids=["before a table changed", "after all had"])
def test_a_run_that_dies_in_its_commit_leaves_nothing_of_them_to_whoever_finishes_it(world, planted, step):
    codes, tokens = planted
    world.say(codes, restricted=False)
    world.ingest()
    world.say(codes, restricted=True)
    with patch.object(journal, step, side_effect=KeyboardInterrupt), pytest.raises((KeyboardInterrupt, RuntimeError)):
        world.ingest()
    assert world.where(tokens)
    for lease in (world.path / "operational" / "leases").iterdir():  # as if the process had ended
        lease.unlink()
    with journal.sole_committer(world.lake):  # whoever comes next may have nothing to commit of its own
        pass
    assert world.where(tokens) == set()
    for name in WITHHOLDING:
        state = world.lake.state(name)
        assert len(state.snapshots) == 1
        assert world.lake.marked_data_paths(name, "") == {file.path for file in state.files()}
    world.ingest()
    assert_sound(world)


def test_a_state_that_another_run_builds_on_goes_with_the_next_commit(world, planted):
    codes, tokens = planted
    world.say(codes, restricted=False)
    world.ingest()
    with leased(world.lake, "20260330T040000Z-0123abcd", "ingest", in_process=True):
        base = {name: world.lake.state(name).snapshot_id for name in WITHHOLDING}
        world.say(codes, restricted=True)
        world.ingest()
        for name in WITHHOLDING:
            assert world.lake.state(name).files(base[name])
    world.say(codes[:1], restricted=True)
    world.ingest()
    assert world.where(tokens) == set()
    assert_sound(world)
