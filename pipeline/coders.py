"""Coders of everything that flows between steps: no element is ever pickled."""

import dataclasses
import json
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import pyarrow as pa
from apache_beam.coders.coders import Coder
from apache_beam.coders.typecoders import registry

T = TypeVar("T")


class RecordBatchCoder(Coder):
    """Arrow record batches as Arrow IPC streams; a slice is written alone, not with its whole parent."""

    def encode(self, value: pa.RecordBatch) -> bytes:
        """Write a batch and its schema."""
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, value.schema, options=pa.ipc.IpcWriteOptions(use_threads=False)) as writer:
            writer.write_batch(value)
        encoded: bytes = sink.getvalue().to_pybytes()
        return encoded

    def decode(self, encoded: bytes) -> pa.RecordBatch:
        """Read a batch, zero-copy."""
        with pa.ipc.open_stream(pa.py_buffer(encoded)) as reader:
            return reader.read_next_batch()

    def estimate_size(self, value: pa.RecordBatch) -> int:
        """Tell the size without encoding: Beam asks for samples of every collection."""
        size: int = value.nbytes
        return size

    def is_deterministic(self) -> bool:
        """Batches are values, never keys."""
        return False


class DataclassCoder(Coder):
    """Frozen dataclasses, with tuples of others in them, as JSON, to be read in a log of the runner."""

    def __init__(self, kind: type[Any]) -> None:
        self.kind = kind

    def encode(self, value: Any) -> bytes:
        """Write the fields in order."""
        return json.dumps(value, default=_list_fields, separators=(",", ":")).encode()

    def decode(self, encoded: bytes) -> Any:
        """Read the fields back."""
        return _revive(self.kind, json.loads(encoded))

    def is_deterministic(self) -> bool:
        """The same fields give the same bytes, save for the order within a dict."""
        return False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DataclassCoder) and other.kind is self.kind

    def __hash__(self) -> int:
        return hash(self.kind)


def _list_fields(value: Any) -> list[Any]:
    return [getattr(value, field.name) for field in dataclasses.fields(value)]


def _revive(hint: Any, value: Any) -> Any:
    """Make a value of a type from what JSON holds of it."""
    if dataclasses.is_dataclass(hint):
        return hint(*map(_revive, get_type_hints(hint).values(), value))  # type: ignore[operator]
    if get_origin(hint) is tuple:
        of = get_args(hint)[0]
        return tuple(_revive(of, item) for item in value)
    return value


def register_coders(*kinds: type[Any]) -> None:
    """Register the Arrow coder, and one for each of these dataclasses; Beam chooses coders by type hint alone."""
    registry.register_coder(pa.RecordBatch, RecordBatchCoder)
    for kind in kinds:
        registry.register_coder(kind, _coder_class(kind))


def _coder_class(kind: type[Any]) -> type[DataclassCoder]:
    """Make a coder class for a kind: the registry builds coders from a class and the type hint."""

    class KindCoder(DataclassCoder):
        @classmethod
        def from_type_hint(cls, typehint: Any, registry: Any) -> Any:
            del typehint, registry
            return DataclassCoder(kind)

    return KindCoder
