import bz2
import lzma
import resource
import zlib

import cramjam
import pytest
from backports import zstd
from source_cases import avro_schema, read_file, series_records, write_avro

from pipeline.errors import BadFileError
from pipeline.sources.avro_blocks import read_header
from pipeline.sources.avro_codecs import CODECS, MOST_BYTES, TooLargeError, unpack_block


def pack(codec, content):
    if codec == "snappy":
        return bytes(cramjam.snappy.compress_raw(content)) + zlib.crc32(content).to_bytes(4, "big")
    if codec == "deflate":
        compressor = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
        return compressor.compress(content) + compressor.flush()
    return {"null": bytes, "zstandard": zstd.compress, "bzip2": bz2.compress, "xz": lzma.compress}[codec](content)


@pytest.mark.parametrize("codec", CODECS)
def test_what_a_block_holds_is_bounded(codec):
    for size in (0, 1, MOST_BYTES):
        assert unpack_block(codec, pack(codec, bytes(size))) == bytes(size)
    with pytest.raises(TooLargeError):
        unpack_block(codec, pack(codec, bytes(MOST_BYTES + 1)))


@pytest.mark.parametrize("codec", ["deflate", "zstandard", "xz"])
def test_a_bomb_takes_no_memory(codec):
    packed = pack(codec, bytes(512 << 20))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(TooLargeError):
        unpack_block(codec, packed)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 5 * MOST_BYTES >> 10


@pytest.mark.parametrize("codec", sorted(set(CODECS) - {"null"}))
def test_a_block_that_is_cut_does_not_decompress(codec):
    packed = pack(codec, b"a meter reading " * 9)
    for size in range(1, len(packed)):
        with pytest.raises(Exception) as told:  # noqa: PT011 - each codec has errors of its own
            unpack_block(codec, packed[:size])
        assert not isinstance(told.value, TooLargeError)


@pytest.mark.parametrize("codec", ["zstandard", "bzip2", "xz"])
def test_frames_that_follow_each_other_are_one_block(codec):
    assert unpack_block(codec, pack(codec, b"one ") + pack(codec, b"two")) == b"one two"
    with pytest.raises(TooLargeError):
        unpack_block(codec, pack(codec, bytes(MOST_BYTES)) + pack(codec, b"1"))


def test_a_file_with_too_large_a_block_is_refused_with_the_remedy(tmp_path):
    # A million readings of a byte each, forty times.
    records = [{**series_records(1)[0], "energy": [0] * (1 << 19), "status": [5] * (1 << 19)}] * 20
    path = write_avro(tmp_path / "f.avro", records, avro_schema("meter_series"), "deflate", sync_interval=1 << 30)
    with pytest.raises(BadFileError, match="more than 16 MiB of records; write it in smaller blocks"):
        read_file(path)


def test_more_records_than_bytes_are_refused_before_room_is_made_for_them(tmp_path):
    path = write_avro(tmp_path / "f.avro", series_records(1), avro_schema("meter_series"))
    content = open(path, "rb").read()
    at = read_header(content, path).length
    assert content[at] == 1 * 2
    claimed = b"\xfe\xff\xff\xff\xff\xff\xff\xff\x7f"
    (tmp_path / "count.avro").write_bytes(content[:at] + claimed + content[at + 1 :])
    with pytest.raises(BadFileError, match="count of records can't be"):
        read_file(tmp_path / "count.avro")
