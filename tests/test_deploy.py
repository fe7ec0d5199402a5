"""What an operator is given is true: lines of the runbook are lines of the program, units are whole and shut off."""

import re
import shutil
import subprocess
from configparser import ConfigParser
from pathlib import Path

import pytest

from pipeline.cli import build_parser
from pipeline.commands.shared import WARNED

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
RUNBOOK = (DEPLOY / "runbook.md").read_text(encoding="utf-8")
SOURCE = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "pipeline").rglob("*.py"))
SOURCE += (ROOT / "transforms" / "limits.py").read_text(encoding="utf-8")
#: Said by the system, in the words of errno.
OF_THE_SYSTEM = {"No space left on device", "Permission denied", "Read-only file system"}


def cells(heading: str) -> list[list[str]]:
    """List the cells of the table below a heading, without its head."""
    section = RUNBOOK.partition(f"## {heading}")[2].partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return rows[2:]


@pytest.mark.parametrize("heading", ["Warnings", "Failures"])
def test_every_line_of_the_runbook_is_one_that_the_program_says(heading):
    lines = [line for row in cells(heading) for line in re.findall(r"`([^`]+)`", row[0]) if not line.startswith("--")]
    assert len(lines) >= 2
    # What stands in for a value in the program is left out here.
    plain = re.sub(r"\{[^{}]*\}", "…", SOURCE)
    strange = [line for line in lines if line not in plain and line not in OF_THE_SYSTEM]
    assert not strange


def test_every_option_that_the_runbook_names_is_there():
    commands = build_parser()._subparsers._group_actions[0].choices
    known = {"--log-level"}
    for command in commands.values():
        actions = [action for action in command._actions if hasattr(action.choices, "values")]
        parsers = [command, *(parser for action in actions for parser in action.choices.values())]
        known |= {option for parser in parsers for option in parser._option_string_actions}
    assert set(re.findall(r"--[a-z][a-z-]+", RUNBOOK)) <= known
    assert f"| {WARNED} | done" in RUNBOOK


def read_unit(name: str) -> ConfigParser:
    unit = ConfigParser(strict=True, interpolation=None)
    unit.optionxform = str
    unit.read_string((DEPLOY / name).read_text(encoding="utf-8").replace("\\\n", " "))
    return unit


def test_the_service_runs_a_command_that_there_is_and_writes_the_lake_alone():
    service = read_unit("meterveil-ingest.service")["Service"]
    program, *arguments = service["ExecStart"].split()
    assert program.endswith("/meterveil")
    asked = build_parser().parse_args(arguments)
    assert str(asked.lake).startswith(f"{service['ReadWritePaths']}/")
    assert str(asked.run_record).startswith(f"{service['ReadWritePaths']}/")
    assert (service["ProtectSystem"], service["NoNewPrivileges"], service["User"]) == ("strict", "true", "meterveil")
    assert int(service["UMask"], 8) & 0o027 == 0o027
    for path in (asked.reference, Path(asked.kek).parent, Path(asked.readings[0]).parent):
        assert str(path) in service["ReadOnlyPaths"].split()
    assert read_unit("meterveil-ingest.timer")["Timer"]["OnCalendar"].endswith("Europe/Helsinki")


def test_cron_runs_the_same_command():
    [line] = [line for line in (DEPLOY / "meterveil.cron").read_text().splitlines() if re.match(r"\d", line)]
    assert "%" not in line, "cron would end the command there"
    command = line.partition("bin/meterveil ")[2].partition(" >")[0].replace("'", "")
    service = read_unit("meterveil-ingest.service")["Service"]["ExecStart"].split()[1:]
    assert command.split() == service


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not here")
def test_systemd_understands_the_units(tmp_path):
    for name in ("meterveil-ingest.service", "meterveil-ingest.timer"):
        text = (DEPLOY / name).read_text(encoding="utf-8")
        (tmp_path / name).write_text(text.replace("/opt/meterveil/bin/meterveil", shutil.which("true") or ""))
    units = sorted(str(path) for path in tmp_path.iterdir())
    done = subprocess.run(["systemd-analyze", "verify", *units], check=False, capture_output=True, text=True)
    assert [line for line in done.stderr.splitlines() if "meterveil" in line] == []
