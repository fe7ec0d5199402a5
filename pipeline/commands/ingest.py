"""``meterveil ingest``: readings and reference into a lake."""

import argparse
import json
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from pipeline.commands.shared import (
    EPILOG,
    WARNED_EPILOG,
    add_json,
    add_kek,
    as_place,
    as_share,
    show_record,
    tell_warnings,
)
from pipeline.errors import MeterveilError
from pipeline.imports import quick_imports


def describe(commands: Any) -> None:
    """Describe the command and its options."""
    command = commands.add_parser(
        "ingest",
        help="read readings and reference, write every table of the policy",
        description="Reads readings, joins them to contracts, and writes every table of the policy in one commit.",
        epilog=f"Further options go to Beam. {EPILOG} {WARNED_EPILOG}",
    )
    command.add_argument(
        "--readings", nargs="+", default=[], metavar="FILE", help="files or quoted patterns; none for a reference alone"
    )
    command.add_argument(
        "--reference", type=as_place, help="folder of sites, contracts, customers (default: the lake's)"
    )
    command.add_argument("--lake", type=as_place, required=True, help="the lake; made if it is not there")
    command.add_argument("--policy", type=as_place, help="policy file (default: the lake's, else the one of meterveil)")
    command.add_argument("--keyset", type=as_place, required=True, help="keyset file")
    add_kek(command)
    command.add_argument("--format", help="format of the readings (default: found from the content)")
    command.add_argument("--mapping", type=as_place, help="mapping file of a delimited format")
    command.add_argument("--registered-at", metavar="TIME", help="where a format has none: a time, now, or file-name")
    command.add_argument("--metering-point", metavar="ID", help="id for files whose id column is blank or 0")
    command.add_argument("--time-zone", help="of a new lake (Europe/Helsinki)")
    command.add_argument("--buckets", type=int, help="of a new lake: a power of two")
    command.add_argument(
        "--catalog", default="", metavar="URI", help="of a new lake of many machines: postgresql://HOST/DATABASE"
    )
    command.add_argument("--skip-bad-files", action="store_true", help="list files that can't be read, and go on")
    command.add_argument("--force", action="store_true", help="read files again that were ingested before")
    command.add_argument(
        "--max-quarantined",
        type=as_share,
        metavar="SHARE",
        help="stop above, such as 1%% (default: the policy's limit)",
    )
    command.add_argument("--dry-run", action="store_true", help="say what would be read; write nothing")
    command.add_argument("--runner", default="DirectRunner", help="DirectRunner: in this process, on all cores")
    command.add_argument(
        "--detach", action="store_true", help="on a cluster: leave when it has the job, which then commits by itself"
    )
    command.add_argument("--run-record", type=Path, metavar="FILE", help="also write the run record there, as JSON")
    add_json(command)
    command.set_defaults(run=_ingest, parser=command, beam_options=[])


def _ingest(arguments: argparse.Namespace) -> int:
    with quick_imports():
        from pipeline.launch import IngestRequest, describe_ingest, run_ingest
        from pipeline.runners import Engine
        from pipeline.sources.base import ReadOptions
        from pipeline.summary import print_description, show_progress

    engine = Engine(arguments.runner, arguments.beam_options)
    _check_usage(arguments, engine)
    if arguments.run_record and (not arguments.run_record.parent.is_dir() or arguments.run_record.is_dir()):
        raise MeterveilError("can't be written", where=str(arguments.run_record), remedy="name a file in a folder")
    request = IngestRequest(
        readings=arguments.readings,
        lake=arguments.lake,
        keyset=arguments.keyset,
        kek=arguments.kek,
        reference=arguments.reference,
        policy=arguments.policy,
        time_zone=arguments.time_zone,
        buckets=arguments.buckets,
        catalog=arguments.catalog,
        read=ReadOptions(
            registered_at=arguments.registered_at,
            metering_point=arguments.metering_point,
            mapping=str(arguments.mapping) if arguments.mapping else None,
            format=arguments.format,
        ),
        skip_bad_files=arguments.skip_bad_files,
        force=arguments.force,
        max_quarantined=arguments.max_quarantined,
        engine=engine,
        detached=arguments.detach,
    )
    if arguments.dry_run:
        description = describe_ingest(request)
        if arguments.json:
            print(json.dumps(description, indent=2))
        else:
            print_description(description, Console(soft_wrap=True))
        return 0
    started = time.monotonic()
    with show_progress("ingesting"):
        record = run_ingest(request)
    if arguments.detach:
        print(json.dumps(record, indent=2) if arguments.json else f"run {record['run_id']} goes on by itself")
        return 0
    if arguments.run_record:
        arguments.run_record.write_text(json.dumps(record, indent=2), encoding="utf-8")
    show_record(record, started, as_json=arguments.json)
    return tell_warnings(record["warnings"])


def _check_usage(arguments: argparse.Namespace, engine: Any) -> None:
    """Refuse what contradicts itself, before anything is looked at."""
    if fault := engine.find_fault():
        arguments.parser.error(fault)
    if arguments.detach and (engine.is_in_process or arguments.run_record):
        arguments.parser.error("--detach is for a runner on a cluster, and leaves no run record; see meterveil runs")
    if engine.writes_template and not arguments.detach:
        arguments.parser.error("with --template_location the job begins when this has ended: give --detach")
    if not arguments.readings and not arguments.reference:
        arguments.parser.error("give --readings, --reference, or both")
