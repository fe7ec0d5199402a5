"""The work on one part of a file: decode, validate, split by cell, and count every reading on the way."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.sources.base import Delivery, ReadOptions, Split
from pipeline.sources.registry import read_split
from pipeline.totals import Totals, add_totals
from schemas.series import MAX_ENERGY
from transforms.calendar import LocalCalendar
from transforms.pieces import Cell, Pieces, locate, split_by_cell
from transforms.series import regroup
from transforms.validate import validate

#: Readings that are split by cell at a time: large enough that frames are, small enough that memory is bounded.
BATCH_READINGS = 4_000_000


@dataclass(frozen=True, slots=True)
class Part:
    """What one part of a file holds.

    Attributes:
        frames: cell and frame (``transforms.pieces.split_by_cell``); a cell may occur several times.
        rejected: batches of ``schemas.series.REJECTED_SCHEMA``.
        totals: ``delivered`` and ``quarantined:<reason>``.
    """

    frames: list[tuple[Cell, pa.RecordBatch]]
    rejected: list[pa.RecordBatch]
    totals: Totals


class Validated(NamedTuple):
    """What is read at a time.

    Attributes:
        valid: series batch of the readings that broke no rule.
        pieces: where they stand.
        rejected: the others, batches of ``schemas.series.REJECTED_SCHEMA``.
        totals: ``delivered`` and ``quarantined:<reason>``.
    """

    valid: pa.RecordBatch
    pieces: Pieces
    rejected: list[pa.RecordBatch]
    totals: Totals


def read_part(split: Split, options: ReadOptions, calendar: LocalCalendar, bucket_count: int) -> Part:
    """Read a part of a file; every reading in it ends in a frame or is rejected."""
    part = Part([], [], Totals())
    counted: list[Totals] = []
    for valid, pieces, rejected, totals in validate_split(split, options, calendar):
        part.frames.extend(split_by_cell(valid, pieces, bucket_count))
        part.rejected.extend(rejected)
        counted.append(totals)
    return Part(part.frames, part.rejected, add_totals(counted))


def validate_split(split: Split, options: ReadOptions, calendar: LocalCalendar) -> Iterator[Validated]:
    """Read a part of a file batch by batch; every reading in it is valid or rejected."""
    for batch, undecoded in _gather(read_split(split, options)):
        valid, pieces, broken = validate(batch, calendar)
        grouped = regroup(valid)
        if grouped is not valid:
            valid, pieces = grouped, locate(grouped, calendar)
        rejected = [part for part in (*undecoded, *broken) if part.num_rows]
        counted = [_count_delivered(batch, undecoded), *map(_count_quarantined, rejected)]
        yield Validated(valid, pieces, rejected, add_totals(counted))


def _gather(deliveries: Iterable[Delivery]) -> Iterator[tuple[pa.RecordBatch, list[pa.RecordBatch]]]:
    """Join small batches of a source up to ``BATCH_READINGS``."""
    batches: list[pa.RecordBatch] = []
    rejected: list[pa.RecordBatch] = []
    size = 0
    for delivery in deliveries:
        batches.append(delivery.series)
        rejected.append(delivery.rejected)
        size += len(delivery.series.column("energy").flatten())
        if size >= BATCH_READINGS:
            yield pa.concat_batches(batches), rejected
            batches, rejected, size = [], [], 0
    if batches:
        yield pa.concat_batches(batches), rejected


def _count_delivered(batch: pa.RecordBatch, undecoded: Iterable[pa.RecordBatch]) -> Totals:
    """Count what was decoded; an energy out of bounds counts as one that could not be."""
    energy = batch.column("energy").flatten().to_numpy()
    if len(energy) and (energy.min() < -MAX_ENERGY or energy.max() > MAX_ENERGY):
        energy = np.where((energy < -MAX_ENERGY) | (energy > MAX_ENERGY), 0, energy)
    parts = [(len(energy), int(energy.sum())), *((part.num_rows, _decoded_energy(part)) for part in undecoded)]
    return add_totals(Totals.of(delivered=part) for part in parts)


def _count_quarantined(rejected: pa.RecordBatch) -> Totals:
    reasons = rejected.column("reason")
    parts = {reason: rejected.filter(pc.equal(reasons, reason)) for reason in reasons.unique().to_pylist()}
    return Totals.of(
        **{f"quarantined:{reason}": (part.num_rows, _decoded_energy(part)) for reason, part in parts.items()}
    )


def _decoded_energy(rejected: pa.RecordBatch) -> int:
    return int(rejected.column("decoded_energy").to_numpy().sum())
