"""``operational.changes`` says of every run what it changed of the days that were there."""

from whole_job import ingest, query, rows_of

DAYS = """
    SELECT metering_point_id, product, local_date, sum(energy)::DECIMAL(18, 6) AS energy
    FROM t GROUP BY ALL HAVING count(energy) > 0
"""


def days_of(lake) -> dict[tuple, object]:
    return {tuple(key): energy for *key, energy in query(lake, "operational.readings", DAYS)}


def dates_of(lake) -> set[str]:
    return {str(date) for (date,) in query(lake, "operational.readings", "SELECT DISTINCT local_date FROM t")}


def test_a_run_says_what_it_changed(tmp_path, fleet_run):
    lake = tmp_path / "lake"
    files = sorted((fleet_run.folder / "readings").iterdir(), key=lambda path: path.stem.rpartition("-")[2])
    ingest(lake, files[: len(files) // 2], fleet_run.keys, reference=fleet_run.folder / "reference", buckets=4)
    assert len(rows_of(lake, "operational.changes")) == 0, "a first delivery changes nothing"
    before, dates = days_of(lake), dates_of(lake)
    record = ingest(lake, files, fleet_run.keys)
    after = days_of(lake)
    found = rows_of(lake, "operational.changes").to_pylist()
    said = {
        (row["metering_point_id"], row["product"], row["local_date"]): (row["energy_before"], row["energy_after"])
        for row in found
    }
    assert {row["run_id"] for row in found} == {record["run_id"]}
    assert len(said) == len(found)
    differ = {key: (before.get(key), after.get(key)) for key in before | after if before.get(key) != after.get(key)}
    # Days of cells that were not there before are first deliveries.
    assert said.items() <= differ.items()
    assert {key: of for key, of in differ.items() if key in before}.items() <= said.items()
    assert {str(date) for _, _, date in said} <= dates
    assert any(old is not None for old, _ in said.values()), "the fleet has corrections"
    assert record["tables"]["operational.changes"]["rows"] == len(found)
    ingest(lake, files, fleet_run.keys)
    assert len(rows_of(lake, "operational.changes")) == len(found), "what changes nothing says nothing"
