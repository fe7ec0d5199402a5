"""Coders of everything that flows between steps: no element is ever pickled."""

import dataclasses
import json
from typing import Any, TypeVar

import pyarrow as pa
from apache_beam.coders.coders import Coder
from apache_beam.coders.typecoders import registry

T = TypeVar("T")


class RecordBatchCoder(Coder):
    """Arrow record batches as Arrow IPC streams; a slice is written alone, not with its whole parent."""

    def encode(self, value: pa.RecordBatch) -> bytes:
        """Write a batch and its schema."""
        return encode_batch(value)

    def decode(self, encoded: bytes) -> pa.RecordBatch:
        """Read a batch, zero-copy."""
        return decode_batch(encoded)

    def estimate_size(self, value: pa.RecordBatch) -> int:
        """Tell the size without encoding: Beam asks for samples of every collection."""
        size: int = value.nbytes
        return size

    def is_deterministic(self) -> bool:
        """Batches are values, never keys."""
        return False


class DataclassCoder(Coder):
    """Flat frozen dataclasses as JSON, to be read in a log of the runner."""

    def __init__(self, kind: type[Any]) -> None:
        self.kind = kind

    def encode(self, value: Any) -> bytes:
        """Write the fields in order."""
        fields = [getattr(value, field.name) for field in dataclasses.fields(self.kind)]
        return json.dumps(fields, separators=(",", ":")).encode()

    def decode(self, encoded: bytes) -> Any:
        """Read the fields back."""
        return self.kind(*json.loads(encoded))

    def is_deterministic(self) -> bool:
        """The same fields give the same bytes, save for the order within a dict."""
        return False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DataclassCoder) and other.kind is self.kind

    def __hash__(self) -> int:
        return hash(self.kind)


def encode_batch(batch: pa.RecordBatch) -> bytes:
    """Write a record batch as an Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=pa.ipc.IpcWriteOptions(use_threads=False)) as writer:
        writer.write_batch(batch)
    encoded: bytes = sink.getvalue().to_pybytes()
    return encoded


def decode_batch(encoded: bytes) -> pa.RecordBatch:
    """Read a record batch from an Arrow IPC stream, zero-copy."""
    with pa.ipc.open_stream(pa.py_buffer(encoded)) as reader:
        return reader.read_next_batch()


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
