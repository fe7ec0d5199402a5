"""Graphs of ingestion as a runner gets them, and what they hold: shared by tests of the graph."""

import base64
import bz2
import zlib
from pathlib import Path

import apache_beam as beam
from apache_beam.coders import coders
from apache_beam.portability import common_urns
from apache_beam.portability.api import beam_runner_api_pb2

from pipeline.commit import CommitRules
from pipeline.context import RunContext
from pipeline.ingest import build_ingest
from pipeline.keys import SECRET_ACCESS, open_keyset
from pipeline.lake import open_lake
from pipeline.sources.base import ReadOptions
from transforms.limits import NO_LIMITS

#: Coders that fall back on pickle for what they don't know.
PICKLERS = (coders._PickleCoderBase, coders.FastPrimitivesCoder)
#: Steps whose elements are readings.
OF_READINGS = {"ReadReadings", "GroupByCell", "FoldCells", "GroupByFile", "WriteQuarantine"}


def wire_ingest(pipeline: beam.Pipeline, fleet_run) -> None:
    """Wire an ingestion of a fleet into its lake."""
    lake = open_lake(fleet_run.lake)
    context = RunContext(
        run_id="run-of-a-test",
        lake=str(fleet_run.lake),
        policy=str(lake.stored_policy()),
        keyset=str(fleet_run.keys["keyset"]),
        kek=fleet_run.keys["kek"],
        reference="",
        snapshots=(),
        horizons=(),
        tombstones="",
        read=ReadOptions(),
        options="",
        threads=1,
    )
    paths = sorted(str(path) for path in (fleet_run.folder / "readings").iterdir())
    rules = CommitRules("ingest", "", NO_LIMITS)
    build_ingest(pipeline, paths, context, rules, skip_bad_files=False, force=False, ends_run=True)


def parts_of(coder):
    yield coder
    for part in coder._get_component_coders() or ():
        yield from parts_of(part)


def is_pickled(coder) -> bool:
    return any(isinstance(part, PICKLERS) for part in parts_of(coder))


def coders_between(proto, context) -> dict[str, list[coders.Coder]]:
    """List the coders of what comes out of each step.

    What is inside a transform of Beam's own, as the time stamps in a Reshuffle, is no business of ours.
    """
    return {
        transform.unique_name: [context.coders[proto.components.pcollections[name].coder_id] for name in outputs]
        for transform in proto.components.transforms.values()
        if (outputs := transform.outputs.values()) and "/" not in transform.unique_name
    }


def steps_of(proto) -> bytes:
    """Unpack what the graph says of every step that is code of ours."""
    told = b""
    for transform in proto.components.transforms.values():
        if transform.spec.urn == common_urns.primitives.PAR_DO.urn:
            payload = beam_runner_api_pb2.ParDoPayload.FromString(transform.spec.payload).do_fn.payload
            packed = base64.b64decode(payload)
            told += (bz2 if packed.startswith(b"BZh") else zlib).decompress(packed)
    return told


def find_secrets(told: bytes, fleet_run) -> list[bytes]:
    """Find keys of a fleet's run in some bytes, in any form that a key could have there."""
    keyset, kek = fleet_run.keys["keyset"], fleet_run.keys["kek"]
    secrets = [key.secret.reveal(SECRET_ACCESS) for key in open_keyset(keyset, kek).keys]
    secrets.append(Path(kek).read_bytes())
    forms = [base64.b64encode, base64.urlsafe_b64encode, lambda secret: secret.hex().encode(), bytes]
    return [secret for secret in secrets for form in forms if form(secret).rstrip(b"=") in told]
