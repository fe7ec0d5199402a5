"""How inputs are changed, in ways that a format gives a meaning to; the rest the fuzzer does by itself."""

import random
import re
from collections.abc import Callable
from itertools import pairwise

from pipeline.errors import BadFileError
from pipeline.sources.avro_blocks import MAGIC, read_header, walk_blocks

#: Changes bytes as the fuzzer itself does: bytes and the longest result to other bytes.
Change = Callable[[bytes, int], bytes]
#: Makes an input of another one: bytes, the longest result, a seed, and the fuzzer's own way.
Mutate = Callable[[bytes, int, int, Change], bytes]
_SYNC_BYTES = 16
#: Share of inputs that the fuzzer changes byte by byte as it likes.
_PLAIN = 0.4


def mutate_pieces(border: bytes) -> Mutate:
    """Make a mutation of texts: pieces between borders are doubled, moved, exchanged, left out or changed."""
    pattern = re.compile(border)

    def mutate(data: bytes, longest: int, seed: int, change: Change) -> bytes:
        chance = random.Random(seed)
        if chance.random() < _PLAIN or not data:
            return change(data, longest)
        borders = sorted({0, len(data), *(found.end() for found in pattern.finditer(data))})
        pieces = [data[start:stop] for start, stop in pairwise(borders)]
        for _ in range(chance.randint(1, 3)):
            one, other = chance.randrange(len(pieces)), chance.randrange(len(pieces))
            match chance.randrange(6):
                case 0:
                    pieces.insert(one, pieces[other])
                case 1:
                    pieces[one], pieces[other] = pieces[other], pieces[one]
                case 2:
                    pieces[one] = pieces[other]
                case 3 if len(pieces) > 1:
                    del pieces[one]
                case 4:
                    start, stop = sorted((one, other))
                    pieces[stop:stop] = pieces[start:stop]
                case _:
                    pieces[one] = change(pieces[one], len(pieces[one]) + 8)
        return b"".join(pieces)[:longest]

    return mutate


def mutate_in_place(data: bytes, longest: int, seed: int, change: Change) -> bytes:
    """Change a stretch of a file whose offsets count, and keep its length."""
    chance = random.Random(seed)
    if chance.random() < _PLAIN / 2 or len(data) < 16:
        return change(data, longest)
    # What stands at the end says what the rest is.
    low = 0 if chance.random() < 0.5 else len(data) * 2 // 3
    start = chance.randrange(low, len(data))
    size = chance.choice((1, 2, 4, 8, 32))
    changed = change(data[start : start + size], size)
    return data[:start] + changed + data[start + len(changed) :]


def mutate_avro(data: bytes, longest: int, seed: int, change: Change) -> bytes:
    """Change what stands in a block, or a block's counts, and frame it right again."""
    chance = random.Random(seed)
    begin = data.find(MAGIC)
    if chance.random() < _PLAIN or not 0 <= begin <= 1:
        return change(data, longest)
    choice, content = data[:begin], data[begin:]
    try:
        header = read_header(content, "")
        blocks = list(walk_blocks(content, header, ""))
    except BadFileError:
        return change(data, longest)
    pieces = [content[block.start : block.stop - _SYNC_BYTES] for block in blocks]
    head = content[: header.length]
    if not pieces or chance.random() < 0.3:
        schema = head.find(b"{")
        end = head.rfind(b"}") + 1
        return (
            choice + head[:schema] + _keep_length(head[schema:end], change) + head[end:] + content[header.length :]
        )[:longest]
    one = chance.randrange(len(pieces))
    match chance.randrange(4):
        case 0:
            pieces.insert(one, chance.choice(pieces))
        case 1:
            del pieces[one]
        case _:
            pieces[one] = _change_block(pieces[one], change, chance)
    return (choice + head + b"".join(piece + header.sync for piece in pieces))[:longest]


def _keep_length(text: bytes, change: Change) -> bytes:
    """Change a schema; the header counts its bytes, and white space is of no consequence in it."""
    changed = change(text, len(text))
    return changed[:-1] + b" " * (len(text) - len(changed)) + changed[-1:] if changed else text


def _change_block(block: bytes, change: Change, chance: random.Random) -> bytes:
    count, at = _take_long(block, 0)
    _, at = _take_long(block, at)
    content = block[at:]
    if chance.random() < 0.3:
        count = chance.choice((0, 1, count + 1, count - 1, 2**31, 2**62, -1))
    else:
        content = change(content, len(content) + 16)
    return _put_long(count) + _put_long(len(content)) + content


def _take_long(data: bytes, at: int) -> tuple[int, int]:
    encoded = shift = 0
    while True:
        byte = data[at]
        at += 1
        encoded |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return (encoded >> 1) ^ -(encoded & 1), at


def _put_long(value: int) -> bytes:
    encoded = (value << 1) ^ (value >> 63)
    out = bytearray()
    while encoded > 0x7F:
        out.append(encoded & 0x7F | 0x80)
        encoded >>= 7
    return bytes([*out, encoded])
