"""Resolving attributes of customers that several sources speak of: who wins, and what became of every statement.

A source that leaves a value out says nothing. Of what is said, the feed that stands first in the policy's order wins;
within a feed the latest received; at the same time the least text, so that the order of rows never counts. A protection
holds as soon as the latest word of any source is that it does, in the order or not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.reference import RESOLVED_SCHEMA
from schemas.registers import ATTRIBUTES, CUSTOMERS_FEED, PROTECTIONS, PROVENANCE_SCHEMA
from transforms.customers import join_address

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

#: What became of a statement, and why.
OUTCOMES = ("won", "agrees", "older", "tie", "source_order", "outweighed", "unlisted")
WON, AGREES, OLDER, TIE, SOURCE_ORDER, OUTWEIGHED, UNLISTED = range(len(OUTCOMES))
#: Outcomes of statements that the winner contradicts.
CONFLICTS = ("older", "tie", "source_order", "outweighed", "unlisted")
#: Received before anything that says when it was.
_NEVER = np.iinfo(np.int64).min


@dataclass(frozen=True, slots=True, eq=False)
class Resolution:
    """What resolving gave.

    Attributes:
        customers: rows of ``RESOLVED_SCHEMA``, in the order given.
        provenance: rows of ``PROVENANCE_SCHEMA`` by customer and attribute, winners first: every statement about an
            attribute of which another source than the customers' own feed speaks.
    """

    customers: pa.Table
    provenance: pa.Table


@dataclass(frozen=True, slots=True, eq=False)
class _Said:
    """Statements about one attribute, each by one row of a feed.

    Attributes:
        owner: place of the customer.
        feed: index into the feeds, whose order is theirs.
        received: microseconds since 1970.
        source: dictionary-coded name of the source, as an integer that sorts like it.
        text: the value in one line, coded likewise; of a protection whether it holds.
        row: the place among all that is said of the attribute, one feed after the other.
    """

    owner: Ints
    feed: Ints
    received: Ints
    source: Ints
    text: Ints
    row: Ints

    def take(self, chosen: Ints | Mask) -> "_Said":
        return _Said(*(getattr(self, name)[chosen] for name in self.__slots__))


def resolve_customers(
    customers: pa.Table, said: Mapping[str, pa.Table], order: Mapping[str, Sequence[str]]
) -> Resolution:
    """Resolve what several sources say of customers.

    Args:
        customers: rows of ``schemas.reference.CUSTOMERS_SCHEMA``, one per customer.
        said: feed of ``schemas.registers.REGISTERS`` to its rows, with ``customer_id``, ``source``, ``received_at`` and
            the columns of its attributes; rows of nobody here are passed over.
        order: attribute to feeds, the first wins; a feed that is missing there is not heard.
    """
    resolved = customers.append_column("deceased_on", pa.nulls(customers.num_rows, pa.date32())).cast(RESOLVED_SCHEMA)
    own = resolved.append_column("source", pa.repeat(CUSTOMERS_FEED, resolved.num_rows))
    tables = {CUSTOMERS_FEED: own, **{feed: said[feed] for feed in sorted(said) if said[feed].num_rows}}
    # One look-up for all: most of it is to number the customers.
    ids = pa.chunked_array([chunk for table in tables.values() for chunk in table["customer_id"].chunks], pa.string())
    places = pc.fill_null(pc.index_in(ids, customers["customer_id"].combine_chunks()), -1).to_numpy()
    owners = np.split(places, np.cumsum([table.num_rows for table in tables.values()])[:-1])
    parts = []
    for attribute, columns in ATTRIBUTES.items():
        speaking = [place for place, table in enumerate(tables.values()) if columns[0] in table.column_names]
        if speaking == [0] or not speaking:
            continue
        names = list(tables)
        chosen = {names[place]: tables[names[place]] for place in speaking}
        listed = order.get(attribute, (CUSTOMERS_FEED,))
        part = _resolve_attribute(attribute, chosen, [owners[place] for place in speaking], listed)
        if part is not None:
            resolved = _put_winners(resolved, columns, part)
            parts.append(part.tell(attribute, customers["customer_id"]))
    if not parts:
        return Resolution(resolved, PROVENANCE_SCHEMA.empty_table())
    keys = np.concatenate([owner * len(ATTRIBUTES) + list(ATTRIBUTES).index(name) for name, owner, _ in parts])
    provenance = pa.concat_tables([table for _, _, table in parts]).combine_chunks()
    return Resolution(resolved, provenance.take(pa.array(np.argsort(keys, kind="stable"))))


@dataclass(frozen=True, slots=True, eq=False)
class _Resolved:
    """Statements about an attribute in their order, winners first, and what became of each."""

    said: _Said
    outcome: Ints
    values: dict[str, pa.Array]
    texts: pa.Array
    sources: pa.Array
    feeds: Sequence[str]

    def tell(self, attribute: str, customer_ids: pa.ChunkedArray) -> tuple[str, Ints, pa.Table]:
        said = self.said
        received = pa.array(said.received, mask=said.received == _NEVER)
        columns = [
            customer_ids.take(pa.array(said.owner)),
            pa.repeat(attribute, len(said.owner)),
            self.texts.take(pa.array(said.row)),
            pa.array(self.feeds).take(pa.array(said.feed)),
            self.sources.take(pa.array(said.row)),
            received.cast(PROVENANCE_SCHEMA.field("received_at").type),
            pa.array(OUTCOMES).take(pa.array(self.outcome)),
        ]
        return attribute, said.owner, pa.table(columns, schema=PROVENANCE_SCHEMA)


def _resolve_attribute(
    attribute: str, tables: Mapping[str, pa.Table], owners: Sequence[Ints], listed: Sequence[str]
) -> _Resolved | None:
    feeds = list(tables)
    spoken, contested = {}, np.zeros(max(owner.max(initial=0) for owner in owners) + 1, np.bool_)
    # The customers' own feed last: where it alone speaks, there is nothing to tell.
    for place in sorted(range(len(feeds)), key=lambda place: feeds[place] == CUSTOMERS_FEED):
        table, rows = tables[feeds[place]], np.flatnonzero(owners[place] >= 0)
        if feeds[place] == CUSTOMERS_FEED:
            rows = rows[contested[owners[place][rows]]]
        spoken[place] = _take_spoken(table, ATTRIBUTES[attribute], rows)
        contested[owners[place][spoken[place].row]] = True
    if not contested.any():
        return None
    parts = [spoken[place] for place in range(len(feeds))]
    owner = np.concatenate([of[part.row] for of, part in zip(owners, parts, strict=True)])
    feed = np.repeat(np.arange(len(feeds)), [len(part.row) for part in parts])
    received = np.concatenate([part.received for part in parts])
    values = {name: pa.concat_arrays([part.values[name] for part in parts]) for name in ATTRIBUTES[attribute]}
    texts, sources = (pa.concat_arrays([getattr(part, name) for part in parts]) for name in ("texts", "sources"))
    protects = attribute in PROTECTIONS
    code = pc.equal(texts, "true").to_numpy(zero_copy_only=False).astype(np.int64) if protects else _rank(texts)
    said = _Said(owner, feed, received, _rank(sources), code, np.arange(len(owner)))
    rank = np.array([listed.index(name) if name in listed else len(listed) for name in feeds])
    said = _put_in_order(said, rank, protects=protects)
    outcome = _judge(said, rank, len(listed), protects=protects)
    winners_first = np.lexsort((np.arange(len(outcome)), outcome != WON, said.owner))
    return _Resolved(said.take(winners_first), outcome[winners_first], values, texts, sources, feeds)


@dataclass(frozen=True, slots=True, eq=False)
class _Spoken:
    """Those rows of a feed that say something of an attribute: which, the values, as one text, by whom, and when."""

    row: Ints
    values: dict[str, pa.Array]
    texts: pa.Array
    sources: pa.Array
    received: Ints


def _take_spoken(table: pa.Table, columns: Sequence[str], rows: Ints) -> _Spoken:
    """Take those of some rows of a feed that say something."""
    chosen = table.select([*columns, "source", "received_at"]).take(pa.array(rows)).combine_chunks()
    texts = _spell([chosen[name].combine_chunks() for name in columns])
    speaks = texts.is_valid()
    chosen = chosen.filter(speaks)
    received = pc.fill_null(chosen["received_at"].cast(pa.int64()), _NEVER).to_numpy()
    values = {name: chosen[name].combine_chunks() for name in columns}
    rows = rows[speaks.to_numpy(zero_copy_only=False)]
    return _Spoken(rows, values, texts.filter(speaks), chosen["source"].combine_chunks(), received)


def _put_in_order(said: _Said, rank: Ints, *, protects: bool) -> _Said:
    """Sort by customer and precedence, and drop what is said twice in the very same words."""
    # At the same time a protection counts: 1 goes before 0.
    text = -said.text if protects else said.text
    order = np.lexsort((said.source, text, -said.received, said.feed, rank[said.feed], said.owner))
    said = said.take(order)
    again = np.ones(max(0, len(order) - 1), np.bool_)
    for name in ("owner", "feed", "received", "source", "text"):
        again &= getattr(said, name)[1:] == getattr(said, name)[:-1]
    return said.take(np.append(True, ~again)) if len(order) else said


def _judge(said: _Said, rank: Ints, unlisted: int, *, protects: bool) -> Ints:
    """Say what became of statements in their order."""
    count = len(said.owner)
    first = np.append(True, said.owner[1:] != said.owner[:-1])
    own_rank = rank[said.feed]
    counts = own_rank < unlisted
    outweighed = np.zeros(count, np.bool_)
    if protects:
        latest = _find_latest(said)
        holds = latest & (said.text == 1)
        outweighed = _share(holds, said.owner) & latest & ~holds
        counts = np.where(_share(holds, said.owner), holds, latest & counts)
    group = np.cumsum(first) - 1
    winner = np.full(group[-1] + 1, count)
    np.minimum.at(winner, group[counts], np.flatnonzero(counts))
    of = np.minimum(winner[group], count - 1)
    has = winner[group] < count
    same_feed = said.feed == said.feed[of]
    outcome = np.select(
        [
            np.arange(count) == winner[group],
            has & (said.text == said.text[of]),
            outweighed,
            own_rank >= unlisted,
            same_feed & (said.received == said.received[of]),
            same_feed,
        ],
        [WON, AGREES, OUTWEIGHED, UNLISTED, TIE, OLDER],
        SOURCE_ORDER,
    )
    return outcome.astype(np.int64)


def _find_latest(said: _Said) -> Mask:
    """Mark the latest word of each source about each customer."""
    order = np.lexsort((np.arange(len(said.owner)), -said.received, said.source, said.feed, said.owner))
    marked = np.zeros(len(order), np.bool_)
    differs = np.zeros(len(order), np.bool_)
    for name in ("owner", "feed", "source"):
        values = getattr(said, name)[order]
        differs |= np.append(True, values[1:] != values[:-1])
    marked[order[differs]] = True
    return marked


def _share(mask: Mask, owner: Ints) -> Mask:
    """Tell for each statement whether any about the same customer is marked."""
    owners = np.zeros(owner.max() + 1, np.bool_)
    owners[owner[mask]] = True
    return owners[owner]


def _put_winners(resolved: pa.Table, columns: Sequence[str], part: _Resolved) -> pa.Table:
    won = part.outcome == WON
    owner, row = part.said.owner[won], part.said.row[won]
    for name in columns:
        base, place = resolved[name].combine_chunks(), np.arange(resolved.num_rows)
        place[owner] = len(base) + np.arange(len(row))
        stated = part.values[name].take(pa.array(row)).cast(base.type)
        field = resolved.schema.field(name)
        resolved = resolved.set_column(
            resolved.column_names.index(name), field, pa.concat_arrays([base, stated]).take(pa.array(place))
        )
    return resolved


def _spell(columns: Sequence[pa.Array]) -> pa.Array:
    """Write the values of an attribute as one text each."""
    return columns[0].cast(pa.string()) if len(columns) == 1 else join_address(*columns)


def _rank(texts: pa.Array) -> Ints:
    """Number texts so that the numbers sort as they do."""
    coded = texts.dictionary_encode()
    rank = np.empty(len(coded.dictionary), np.int64)
    rank[pc.sort_indices(coded.dictionary).to_numpy()] = np.arange(len(rank))
    ranks: Ints = rank[coded.indices.to_numpy()]
    return ranks
