"""A small file of each format, cut at every byte: an error, or an entry in quarantine, never a silently shorter result.

What no format of lines or blocks can show is a cut exactly between two of them: what comes out then is what stands there.
"""

from contextlib import suppress
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from fuzz_contract import OPTIONS
from fuzz_lines import MAPPINGS
from fuzz_seeds import make_lines
from fuzz_targets import CORPUS, FEEDS
from source_cases import avro_schema, read_file, reading_records, series_records, write_avro

from pipeline.errors import BadFileError, MeterveilError
from pipeline.feeds import read_feed
from pipeline.sources.avro_blocks import read_header, walk_blocks


def list_cuts(folder, content, options, suffix="bin"):
    """Give, for every length that is not refused, what is read: (length, good, rejected)."""
    for size in range(len(content)):
        path = folder / f"cut.{suffix}"
        path.write_bytes(content[:size])
        with suppress(BadFileError):
            yield size, *read_file(path, options)


@pytest.mark.parametrize("kind", ["datahub-xml", "datahub-json", "nem12", "nem13"])
def test_a_format_with_an_end_is_refused_without_it(tmp_path, kind):
    content = min((path.read_bytes() for path in (CORPUS / kind).iterdir()), key=len)
    options = replace(OPTIONS, format=kind)
    path = tmp_path / "whole"
    path.write_bytes(content)
    whole = read_file(path, options)
    assert whole[0]
    for size, good, rejected in list_cuts(tmp_path, content, options):
        assert not content[size:].strip()  # only white space is missing
        assert (good, rejected) == whole


@pytest.mark.parametrize("codec", ["null", "deflate"])
@pytest.mark.parametrize("name", ["meter_series", "meter_reading"])
def test_avro_is_refused_but_between_blocks(tmp_path, name, codec):
    records = series_records(3, 4) if name == "meter_series" else reading_records(6)
    path = write_avro(tmp_path / "f.avro", records, avro_schema(name), codec, sync_interval=90)
    with open(path, "rb") as file:
        content = file.read()
    header = read_header(content, path)
    edges = [header.length, *(block.stop for block in walk_blocks(content, header, path))]
    counts = [0]
    for block in walk_blocks(content, header, path):
        counts.append(counts[-1] + block.count * (4 if name == "meter_series" else 1))
    assert len(edges) > 2
    found = {size: len(good) for size, good, rejected in list_cuts(tmp_path, content, OPTIONS) if not rejected}
    assert found == dict(zip(edges[:-1], counts[:-1], strict=True))


@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_parquet_is_refused(tmp_path, version):
    table = pa.Table.from_pylist(reading_records(8))
    for name in ("start", "registered_at"):
        place = table.schema.get_field_index(name)
        table = table.set_column(place, name, table[name].cast(pa.timestamp("us", "UTC")))
    pq.write_table(table, tmp_path / "f.parquet", data_page_version=version, store_schema=False)
    assert len(read_file(tmp_path / "f.parquet")[0]) == 8
    assert list(list_cuts(tmp_path, (tmp_path / "f.parquet").read_bytes(), OPTIONS)) == []


@pytest.mark.parametrize("kind", ["datahub-csv", *range(len(MAPPINGS))])
def test_the_line_that_is_cut_is_set_aside_and_those_before_it_are_as_they_were(tmp_path, kind):
    portal = kind == "datahub-csv"
    options = replace(OPTIONS, format="datahub-csv" if portal else "mapped-csv")
    if not portal:
        options = replace(options, mapping=str(tmp_path / "mapping.yaml"))
        (tmp_path / "mapping.yaml").write_text(yaml.safe_dump(MAPPINGS[kind]), "utf-8")
    content = make_lines(kind)
    lines = content.splitlines(keepends=True)
    whole = {}
    for number in range(1, len(lines) + 1):
        (tmp_path / "whole").write_bytes(b"".join(lines[:number]))
        whole[number] = read_file(tmp_path / "whole", options)
    assert whole[len(lines)][0]
    header = len(lines[0])
    for size, good, rejected in list_cuts(tmp_path, content, options):
        number = content[:size].count(b"\n")
        rest = content[:size].rpartition(b"\n")[2]
        if size < header:
            assert (good, rejected) == ([], [])  # the header, but for its line end
        elif not rest:
            assert (good, rejected) == whole[number]
        elif portal and rest == lines[number].rstrip():
            assert (good, rejected) == whole[number + 1]  # its last word is whole
        else:
            assert good == whole[number][0]
            assert [row for row in rejected if row["row"] <= number] == whole[number][1]
            assert [(row["row"], row["reason"] in REASONS) for row in rejected if row["row"] > number] == [
                (number + 1, True)
            ]


#: What a part of a line may seem to be.
REASONS = ("unreadable_row", "unknown_status", "bad_energy", "mangled_identifier")


FEED_FORMATS = [(suffix, "contracts") for suffix in (".csv", ".parquet", ".avro")] + [(".json", "datahub_customer")]


@pytest.mark.parametrize(("suffix", "feed"), FEED_FORMATS)
def test_a_reference_feed_is_refused_but_between_rows_or_blocks(tmp_path, suffix, feed):
    number = FEEDS.index((feed, suffix))
    content = next(
        content[1:] for path in (CORPUS / "reference").iterdir() if (content := path.read_bytes())[0] == number
    )
    path = tmp_path / f"{feed}{suffix}"
    path.write_bytes(content)
    assert sum(batch.num_rows for batch in read_feed(feed, path)) == 3
    read = {}
    for size in range(len(content)):
        path.write_bytes(content[:size])
        with suppress(MeterveilError):
            read[size] = sum(batch.num_rows for batch in read_feed(feed, path))
    if suffix == ".csv":
        ends = [at + 1 for at, byte in enumerate(content[:-1]) if byte == ord("\n")]
        assert read == {end: rows for rows, end in enumerate(ends)}
    elif suffix == ".avro":
        assert read == {read_header(content, "").length: 0}
    else:
        assert read == {}
