"""The command line: ``meterveil --help``."""

import argparse
import json
import logging
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console
from rich.table import Table

from pipeline.errors import MeterveilError
from pipeline.imports import quick_imports

#: Width of tables that no terminal shows: nothing is cut.
_UNBOUNDED = 100_000
_EPILOG = "Exit code 0: done. 1: failed, with the reason in one line. 2: wrong usage."


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, then where to find help."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


class _Version(argparse.Action):
    """Looks the version up when it is asked for: that takes longer than all else that ``--help`` does."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str) -> None:  # noqa: A002 - argparse's name
        super().__init__(option_strings, dest, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from importlib.metadata import version

        parser.exit(message=f"meterveil {version('meterveil')}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: arguments without the program's name; those of the process if None.

    Returns:
        The exit code.
    """
    arguments, rest = build_parser().parse_known_args(argv)
    if rest and arguments.run is not _ingest:
        build_parser().error(f"unknown option {rest[0]}")
    if arguments.run is _ingest:
        arguments.beam_options = rest
    _set_up_logs(arguments.log_level)
    try:
        arguments.run(arguments)
    except MeterveilError as error:
        _say_failure(str(error))
        return 1
    except OSError as error:
        problem = error.strerror or type(error).__name__
        _say_failure(f"{error.filename or 'a file'}: {problem}; mend that and run it again")
        return 1
    except KeyboardInterrupt:
        _say_failure("interrupted; nothing was committed that the tables do not show whole")
        return 130
    except Exception as error:  # noqa: BLE001 - the words of an error that nobody foresaw may hold values of rows
        frames = traceback.extract_tb(error.__traceback__)
        logging.getLogger(__name__).debug("%s at:\n%s", type(error).__name__, "".join(frames.format()))
        own = next(frame for frame in reversed(frames) if _is_own(frame.filename))
        problem = f"{type(error).__name__} in {Path(own.filename).name}, line {own.lineno}"
        _say_failure(f"{problem}, which nobody foresaw; report it with what --log-level DEBUG says")
        return 1
    return 0


def _is_own(file: str) -> bool:
    packages = Path(__file__).parent.parent
    return any(Path(file).is_relative_to(packages / name) for name in ("pipeline", "transforms"))


def _say_failure(line: str) -> None:
    console = Console(stderr=True, soft_wrap=True)
    # Names of files may hold anything, line feeds and the terminal's own commands too.
    shown = "".join(character if character.isprintable() else "?" for character in f"meterveil: {line}")
    console.print(shown, style="red", markup=False, highlight=False)


def _set_up_logs(level: str) -> None:
    """Log to standard error; Beam repeats every error with its stack, which helps at DEBUG only."""
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s %(message)s", force=True)
    debug = level == "DEBUG"
    logging.getLogger("apache_beam").setLevel(logging.DEBUG if debug else logging.CRITICAL)
    # At DEBUG the workers would log the elements themselves.
    logging.getLogger("apache_beam.runners.worker").setLevel(logging.INFO if debug else logging.CRITICAL)
    logging.getLogger("pyiceberg").setLevel(logging.DEBUG if debug else logging.ERROR)


def build_parser() -> argparse.ArgumentParser:
    """Describe every command and option."""
    parser = _Parser(
        prog="meterveil", description="Smart-meter ingestion and pseudonymisation on Apache Beam.", epilog=_EPILOG
    )
    parser.add_argument("--version", action=_Version, help="show the version, and exit")
    parser.add_argument("--log-level", default="ERROR", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND", parser_class=_Parser)
    for describe in (
        _describe_generate,
        _describe_keys,
        _describe_policy,
        _describe_init,
        _describe_ingest,
        _describe_query,
        _describe_tables,
        _describe_verify,
    ):
        describe(commands)
    return parser


def _describe_generate(commands: Any) -> None:
    command = commands.add_parser("generate", help="make a realistic fleet, with the truth beside it")
    command.add_argument("--points", type=int, default=10_000, help="metering points (default 10000)")
    command.add_argument("--days", type=int, default=2, help="local days (default 2)")
    command.add_argument("--start", type=date.fromisoformat, default=date(2026, 3, 28), help="first day (2026-03-28)")
    command.add_argument("--seed", type=int, default=7, help="the same seed gives the same fleet (default 7)")
    command.add_argument("--out", type=Path, required=True, help="folder for readings/, reference/ and truth.json")
    command.add_argument(
        "--hourly-share", type=float, default=0.28, help="share of points that still deliver hours (0.28)"
    )
    command.add_argument("--format", default="avro-series", help="avro-series, avro-readings, parquet, … (avro-series)")
    command.add_argument("--faults", default="none", help="all, none, or names joined by commas (default none)")
    command.add_argument("--file-faults", default="none", help="whole bad files: all, none or names (default none)")
    command.set_defaults(run=_generate)


def _describe_keys(commands: Any) -> None:
    command = commands.add_parser("keys", help="create and show pseudonymisation keys")
    actions = command.add_subparsers(required=True, metavar="ACTION", parser_class=_Parser)
    create = actions.add_parser("create", help="make a keyset; also the key-encryption key, where that is a new file")
    create.add_argument("--keyset", type=Path, required=True, help="keyset file to make")
    create.add_argument("--kek", required=True, help="key-encryption key: a file of mode 0600, or env:NAME")
    create.set_defaults(run=_create_keys)
    show = actions.add_parser("show", help="list the keys of a keyset, without their secrets")
    show.add_argument("--keyset", type=Path, required=True, help="keyset file")
    _add_json(show)
    show.set_defaults(run=_show_keys)


def _describe_policy(commands: Any) -> None:
    command = commands.add_parser("policy", help="check a policy")
    actions = command.add_subparsers(required=True, metavar="ACTION", parser_class=_Parser)
    check = actions.add_parser("check", help="validate a policy file and list its datasets")
    check.add_argument("--policy", type=Path, help="policy file (default: the one that comes with meterveil)")
    _add_json(check)
    check.set_defaults(run=_check_policy)


def _describe_init(commands: Any) -> None:
    command = commands.add_parser("init", help="make a lake; the first ingest does it too")
    command.add_argument("--lake", type=Path, required=True, help="folder to make")
    command.add_argument("--time-zone", default="Europe/Helsinki", help="of its local days (Europe/Helsinki)")
    command.add_argument("--buckets", type=int, required=True, help="a power of two; about one per 100,000 points")
    command.set_defaults(run=_init)


def _describe_ingest(commands: Any) -> None:
    command = commands.add_parser(
        "ingest",
        help="read readings and reference, write every table of the policy",
        description="Reads readings, joins them to contracts, and writes every table of the policy in one commit.",
        epilog=f"Further options go to Beam. {_EPILOG}",
    )
    command.add_argument(
        "--readings", nargs="+", default=[], metavar="FILE", help="files or quoted patterns; none for a reference alone"
    )
    command.add_argument("--reference", type=Path, help="folder of sites, contracts, customers (default: the lake's)")
    command.add_argument("--lake", type=Path, required=True, help="the lake; made if it is not there")
    command.add_argument("--policy", type=Path, help="policy file (default: the lake's, else the one of meterveil)")
    command.add_argument("--keyset", type=Path, required=True, help="keyset file")
    command.add_argument("--kek", required=True, help="key-encryption key: a file of mode 0600, or env:NAME")
    command.add_argument("--format", help="format of the readings (default: found from the content)")
    command.add_argument("--mapping", type=Path, help="mapping file of a delimited format")
    command.add_argument("--registered-at", metavar="TIME", help="where a format has none: a time, now, or file-name")
    command.add_argument("--metering-point", metavar="ID", help="id for files whose id column is blank or 0")
    command.add_argument("--time-zone", help="of a new lake (Europe/Helsinki)")
    command.add_argument("--buckets", type=int, help="of a new lake: a power of two")
    command.add_argument("--skip-bad-files", action="store_true", help="list files that can't be read, and go on")
    command.add_argument("--force", action="store_true", help="read files again that were ingested before")
    command.add_argument("--max-quarantined", type=_share, default=1.0, metavar="SHARE", help="stop above, such as 1%%")
    command.add_argument("--dry-run", action="store_true", help="say what would be read; write nothing")
    command.add_argument("--runner", default="DirectRunner", help="DirectRunner: in this process, on all cores")
    command.add_argument("--run-record", type=Path, metavar="FILE", help="also write the run record there, as JSON")
    _add_json(command)
    command.set_defaults(run=_ingest)


def _describe_query(commands: Any) -> None:
    command = commands.add_parser("query", help="run SQL over the tables that a role may read for a purpose")
    command.add_argument("--lake", type=Path, required=True, help="the lake, or its analytics folder alone")
    command.add_argument("--role", required=True, help="role of the policy that you act in")
    command.add_argument("--purpose", required=True, help="purpose of the policy that you read for")
    command.add_argument("--as-of", default="", metavar="TIME|RUN", help="answer as the lake was, by today's grants")
    command.add_argument("--format", default="table", help="table, csv, json or parquet (default table)")
    command.add_argument("--out", type=Path, help="file to write to (default: standard output)")
    command.add_argument("sql", help="one SELECT statement, such as 'SELECT count(*) FROM analytics.readings'")
    command.set_defaults(run=_query)


def _describe_tables(commands: Any) -> None:
    command = commands.add_parser("tables", help="list the tables of a lake, and what a role may read")
    command.add_argument("--lake", type=Path, required=True, help="the lake, or its analytics folder alone")
    command.add_argument("--role", help="tell which tables this role may read")
    _add_json(command)
    command.set_defaults(run=_tables)


def _describe_verify(commands: Any) -> None:
    command = commands.add_parser(
        "verify",
        help="check that a lake is as it was written; changes nothing",
        description="Checks every file against its digest, and every table against what it derives from. Changes "
        "nothing. What runs that died left over is shown and breaks no rule.",
        epilog="Exit code 0: clean. 1: something was found, or the lake can't be verified. 2: wrong usage.",
    )
    command.add_argument("--lake", type=Path, required=True, help="the lake; both zones must be in reach")
    _add_json(command)
    command.set_defaults(run=_verify)


def _add_json(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="machine-readable result on standard output")


def _share(text: str) -> float:
    with suppress(ValueError):
        value = float(text.removesuffix("%")) / 100 if text.endswith("%") else float(text)
        if 0 <= value <= 1:
            return value
    raise argparse.ArgumentTypeError("a share between 0 and 1, or a percentage")


# Commands import what they need when they run: --help and small commands don't wait for the engine.


def _generate(arguments: argparse.Namespace) -> None:
    from pipeline.fleet.generate import generate_fleet
    from pipeline.fleet.options import FILE_FAULTS, ROW_FAULTS, FleetOptions

    def names(text: str, every: Any) -> frozenset[str]:
        return frozenset(every) if text == "all" else frozenset(() if text == "none" else text.split(","))

    options = FleetOptions(
        points=arguments.points,
        days=arguments.days,
        start=arguments.start,
        seed=arguments.seed,
        hourly_share=arguments.hourly_share,
        format=arguments.format,
        faults=names(arguments.faults, ROW_FAULTS),
        file_faults=names(arguments.file_faults, FILE_FAULTS),
    )
    truth = generate_fleet(options, arguments.out)
    figures = json.loads(truth.read_text(encoding="utf-8"))
    readings = f"{figures['readings_delivered']:,}"
    print(f"{readings} readings of {arguments.points:,} points in {arguments.out}, the truth in {truth}")


def _create_keys(arguments: argparse.Namespace) -> None:
    from pipeline.keys import create_keyset

    info = create_keyset(arguments.keyset, arguments.kek)
    print(f"key {info.id} in {arguments.keyset}; keep the key-encryption key apart from it")


def _show_keys(arguments: argparse.Namespace) -> None:
    from pipeline.keys import describe_keyset

    rows = [
        {
            "id": info.id,
            "status": str(info.status),
            "primary": info.primary,
            "active_from": str(info.active_from),
            "created_at": info.created_at.isoformat(),
        }
        for info in describe_keyset(arguments.keyset)
    ]
    _print_rows(rows, as_json=arguments.json)


def _check_policy(arguments: argparse.Namespace) -> None:
    from pipeline.policy_file import DEFAULT_POLICY, load_policy

    plan = load_policy(arguments.policy or DEFAULT_POLICY)
    rows = [
        {
            "dataset": name,
            "audience": ", ".join(sorted(dataset.audience)),
            "purposes": ", ".join(sorted(dataset.purposes)),
            "domain": dataset.domain,
            "epoch": dataset.epoch,
            "columns": len(dataset.columns),
        }
        for name, dataset in plan.datasets.items()
    ]
    _print_rows(rows, as_json=arguments.json)


def _init(arguments: argparse.Namespace) -> None:
    from pipeline.lake import create_lake

    lake = create_lake(arguments.lake, time_zone=arguments.time_zone, bucket_count=arguments.buckets)
    print(f"lake at {lake.root}: {lake.settings.bucket_count} buckets, {lake.settings.time_zone}")


def _ingest(arguments: argparse.Namespace) -> None:
    with quick_imports():
        from pipeline.launch import IngestRequest, describe_ingest, find_option_fault, run_ingest
        from pipeline.sources.base import ReadOptions
        from pipeline.summary import print_description, print_record, show_progress

    if fault := find_option_fault(arguments.beam_options):
        build_parser().error(fault)
    if not arguments.readings and not arguments.reference:
        build_parser().error("give --readings, --reference, or both")
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
        read=ReadOptions(
            registered_at=arguments.registered_at,
            metering_point=arguments.metering_point,
            mapping=str(arguments.mapping) if arguments.mapping else None,
            format=arguments.format,
        ),
        skip_bad_files=arguments.skip_bad_files,
        force=arguments.force,
        max_quarantined=arguments.max_quarantined,
        runner=arguments.runner,
        beam_options=arguments.beam_options,
    )
    if arguments.dry_run:
        description = describe_ingest(request)
        if arguments.json:
            print(json.dumps(description, indent=2))
        else:
            print_description(description, Console(soft_wrap=True))
        return
    started = time.monotonic()
    with show_progress("ingesting"):
        record = run_ingest(request)
    if arguments.run_record:
        arguments.run_record.write_text(json.dumps(record, indent=2), encoding="utf-8")
    if arguments.json:
        print(json.dumps(record, indent=2))
    else:
        print_record(record, Console(soft_wrap=True), started)


def _query(arguments: argparse.Namespace) -> None:
    with quick_imports():
        from pipeline.access import current_user
        from pipeline.query import run_query
        from pipeline.results import write_result

    lake, plan = _open_lake_and_plan(arguments)
    user = current_user()
    result = run_query(lake, plan, arguments.role, arguments.purpose, arguments.sql, user, arguments.as_of)
    if arguments.out:
        with arguments.out.open("wb") as stream:
            write_result(result, arguments.format, stream)
    else:
        write_result(result, arguments.format, sys.stdout.buffer)


def _tables(arguments: argparse.Namespace) -> None:
    from pipeline.tables import list_tables

    lake, plan = _open_lake_and_plan(arguments)
    rows = [
        {
            "table": info.name,
            "rows": info.rows,
            "bytes": info.bytes,
            "files": info.files,
            "audience": ", ".join(info.audience),
            "purposes": ", ".join(info.purposes),
            **({} if info.readable is None else {"readable": info.readable}),
        }
        for info in list_tables(lake, plan, arguments.role)
    ]
    _print_rows(rows, as_json=arguments.json)


def _verify(arguments: argparse.Namespace) -> None:
    from pipeline.summary import print_findings
    from pipeline.verify import verify_lake

    findings = verify_lake(*_open_lake_and_plan(arguments))
    if arguments.json:
        print(json.dumps(findings.describe(), indent=2))
    else:
        print_findings(findings, Console(soft_wrap=True))
    if findings.violations:
        raise MeterveilError(
            f"{findings.violations} violations", where=str(arguments.lake), remedy="restore what is damaged from a copy"
        )


def _open_lake_and_plan(arguments: argparse.Namespace) -> Any:
    with quick_imports():
        from pipeline.lake import open_lake
        from pipeline.policy_file import DEFAULT_POLICY, load_policy

    lake = open_lake(arguments.lake)
    # Never a policy that the caller names: it could grant anything.
    return lake, load_policy(lake.stored_policy() or DEFAULT_POLICY)


def _print_rows(rows: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    table = Table()
    for name, value in (rows[0] if rows else {}).items():
        is_number = isinstance(value, int) and not isinstance(value, bool)
        table.add_column(name, justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_as_cell(value) for value in row.values()))
    Console(width=None if sys.stdout.isatty() else _UNBOUNDED).print(table)


def _as_cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
