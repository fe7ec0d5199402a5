"""Mirrors that are kept: brought in step after every commit, by whoever made it.

It is done when the commit is, and takes nothing back: a catalog that is away, or that a worker of a cluster has no
configuration for, is told in the log, and the next commit mends what is late.
"""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from pipeline.errors import MeterveilError
from pipeline.files import replace_file
from pipeline.journal import sole_committer
from pipeline.lake import Lake
from pipeline.mirror import bring_tables
from transforms.plan import Zone

_FILE = "mirrors.json"


@dataclass(frozen=True, slots=True)
class Mirror:
    """Where a zone's tables are brought.

    Attributes:
        zone: the zone.
        name: of the catalog, in pyiceberg's configuration.
        namespace: where in that catalog.
    """

    zone: Zone
    name: str
    namespace: str


def list_kept(lake: Lake) -> list[Mirror]:
    """List the mirrors that are kept.

    Raises:
        MeterveilError: the list is damaged.
    """
    path = lake.records("operational") / _FILE
    try:
        return [Mirror(**fields) for fields in json.loads(path.read_bytes())]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError):
        raise MeterveilError(
            "the list of mirrors can't be read",
            where=str(path),
            remedy="delete it; name them again: mirror --always",
        ) from None


def keep_mirror(lake: Lake, mirror: Mirror, *, always: bool) -> None:
    """Keep a mirror from now on, or no more.

    Raises:
        MeterveilError: of the lake the operational zone is not in reach, or it can't be changed.
    """
    with sole_committer(lake):
        kept = [one for one in list_kept(lake) if one != mirror] + ([mirror] if always else [])
        content = json.dumps([asdict(one) for one in kept], indent=2).encode() + b"\n"
        replace_file(lake.records("operational") / _FILE, content, private=True)


@contextmanager
def mirrored(lake: Lake) -> Iterator[None]:
    """Bring the mirrors that are kept in step when a block has changed the lake's tables."""
    yield
    try:
        kept = list_kept(lake)
    except MeterveilError as error:
        _tell(error)
        return
    for mirror in kept:
        try:
            bring_tables(lake, mirror.zone, mirror.name, mirror.namespace)
        except MeterveilError as error:
            _tell(error)


def _tell(error: MeterveilError) -> None:
    logging.getLogger(__name__).error("a mirror is late until the next commit, or until it is mirrored: %s", error)
