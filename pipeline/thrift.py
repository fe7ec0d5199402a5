"""Thrift's compact protocol, in which a Parquet footer is written: structures as dicts of typed fields by id.

Source of the rules: thrift-compact-protocol.md of Apache Thrift. Maps, which Parquet doesn't use, are left out.
"""

from collections.abc import Iterable
from typing import Any

TRUE, FALSE, I8, I16, I32, I64, BINARY, LIST, STRUCT = 1, 2, 3, 4, 5, 6, 8, 9, 12

#: A type and a value: int, bytes, ``(type of items, items)`` of a list, or a structure; None under TRUE and FALSE.
Field = tuple[int, Any]
Struct = dict[int, Field]
#: Ten bytes of seven bits hold any number.
_LONGEST_SHIFT = 63


def i32(value: int) -> Field:
    """Make a field of 32 bits, also for a value of an enumeration."""
    return I32, value


def i64(value: int) -> Field:
    """Make a field of 64 bits."""
    return I64, value


def binary(value: bytes) -> Field:
    """Make a field of bytes."""
    return BINARY, value


def list_of(kind: int, items: Iterable[Any]) -> Field:
    """Make a field of a list whose items are of a type."""
    return LIST, (kind, list(items))


def struct(fields: Struct) -> Field:
    """Make a field of a structure."""
    return STRUCT, fields


def encode_struct(fields: Struct) -> bytes:
    """Write a structure."""
    out = bytearray()
    _put_struct(out, fields)
    return bytes(out)


def decode_struct(content: bytes) -> Struct:
    """Read a structure back.

    Raises:
        IndexError: it ends too early.
        ValueError: it holds a type that is none of ours.
    """
    return _Reader(content).take_struct()


def decode_struct_at(content: Any, start: int) -> tuple[Struct, int]:
    """Read a structure that begins somewhere in bytes; gives it, and where it ends. Raises as ``decode_struct``."""
    reader = _Reader(content, start)
    return reader.take_struct(), reader.at


def _put_struct(out: bytearray, fields: Struct) -> None:
    last = 0
    for number, (kind, value) in sorted(fields.items()):
        step = number - last
        if 0 < step <= 15:
            out.append(step << 4 | kind)
        else:
            out.append(kind)
            _put_number(out, _zigzag(number))
        last = number
        if kind not in {TRUE, FALSE}:
            _put_value(out, kind, value)
    out.append(0)


def _put_value(out: bytearray, kind: int, value: Any) -> None:
    match kind:
        case 3:
            out.append(value & 0xFF)
        case 4 | 5 | 6:
            _put_number(out, _zigzag(value))
        case 8:
            _put_number(out, len(value))
            out += value
        case 9:
            of, items = value
            out.append(min(len(items), 15) << 4 | of)
            if len(items) >= 15:
                _put_number(out, len(items))
            for item in items:
                _put_value(out, of, item)
        case 12:
            _put_struct(out, value)
        case 1 | 2:  # items of a list: each says itself which it is
            out.append(TRUE if value else FALSE)
        case _:
            raise ValueError(f"type {kind} of Thrift")


def _zigzag(value: int) -> int:
    return value << 1 if value >= 0 else (-value << 1) - 1


def _put_number(out: bytearray, value: int) -> None:
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


class _Reader:
    def __init__(self, content: Any, start: int = 0) -> None:
        self._content, self.at = content, start

    def take_struct(self) -> Struct:
        fields: Struct = {}
        number = 0
        while head := self._take_byte():
            step, kind = head >> 4, head & 15
            number = number + step if step else self._take_signed()
            fields[number] = kind, None if kind in {TRUE, FALSE} else self._take_value(kind)
        return fields

    def _take_value(self, kind: int) -> Any:
        match kind:
            case 3:
                value = self._take_byte()
                return value - (value >> 7 << 8)
            case 4 | 5 | 6:
                return self._take_signed()
            case 7 | 8:  # a double, which only files of others have; bytes
                length = 8 if kind == 7 else self._take_number()
                self.at += length
                return bytes(self._content[self.at - length : self.at])
            case 9:
                head = self._take_byte()
                size = head >> 4 if head >> 4 < 15 else self._take_number()
                return head & 15, [self._take_value(head & 15) for _ in range(size)]
            case 12:
                return self.take_struct()
            case 1 | 2:
                return self._take_byte() == TRUE
        raise ValueError(f"type {kind} of Thrift")

    def _take_byte(self) -> int:
        self.at += 1
        return int(self._content[self.at - 1])

    def _take_number(self) -> int:
        value = shift = 0
        while True:
            byte = self._take_byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value
            if shift > _LONGEST_SHIFT:
                raise ValueError("a number of Thrift has 64 bits")

    def _take_signed(self) -> int:
        value = self._take_number()
        return value >> 1 ^ -(value & 1)
