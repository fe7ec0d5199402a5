"""The container image: its file is sound, what it copies is there, and its own install steps make a program that runs."""

import fnmatch
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
INSTALLED = "/opt/meterveil"
HADOLINT = shutil.which("hadolint", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")


def read_stages() -> list[list[tuple[str, str]]]:
    """Read the instructions of each stage, with their arguments."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(encoding="utf-8"), flags=re.MULTILINE).replace("\\\n", " ")
    stages: list[list[tuple[str, str]]] = []
    for line in filter(None, text.splitlines()):
        instruction, _, argument = line.partition(" ")
        if instruction == "FROM":
            stages.append([])
        stages[-1].append((instruction, argument))
    return stages


STAGES = read_stages()
BUILD, FINAL = STAGES[-2:]


def copied() -> list[str]:
    """List what the image takes from this folder."""
    return [name for kind, argument in BUILD if kind == "COPY" for name in argument.split()[:-1]]


def constraint(package: str) -> str:
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    return re.search(rf"^{re.escape(package)}==(.*)$", text, re.MULTILINE)[1]


def test_every_base_has_a_tag_and_beam_is_the_one_that_is_installed():
    bases = [argument.split()[0] for stage in STAGES for kind, argument in stage if kind == "FROM"]
    tags = dict(base.split(":") for base in bases)
    assert all(re.match(r"\d+\.\d+", tag) for tag in tags.values())
    assert "-slim" in FINAL[0][1]
    [(beam, version)] = [(base, tag) for base, tag in tags.items() if base.startswith("apache/beam_")]
    assert version == constraint("apache-beam")
    # Boot comes from an image of the same Python as the one that it starts.
    assert tags["python"].startswith(beam.removeprefix("apache/beam_python").removesuffix("_sdk"))


def test_nothing_is_fetched_unpinned_and_no_secret_is_in_it():
    instructions = [instruction for stage in STAGES for instruction in stage]
    assert not [argument for kind, argument in instructions if kind in {"ADD", "ARG"}]
    assert not re.findall(r"\b(?:curl|wget|apt-get|git)\b", str(instructions))
    installs = [argument for kind, argument in instructions if kind == "RUN" and "pip install" in argument]
    assert installs
    assert all("-c constraints.txt" in argument and "pip check" in argument for argument in installs)
    names = [name for kind, argument in instructions if kind == "ENV" for name in re.findall(r"(\w+)=", argument)]
    assert not [name for name in names if re.search(r"KEY|SECRET|PASSW|TOKEN|KEK|AWS|PG", name)]


def test_what_runs_is_no_root_and_can_not_change_the_program():
    kinds = [kind for kind, _ in FINAL]
    [user] = [argument for kind, argument in FINAL if kind == "USER"]
    assert int(user) >= 1000
    assert kinds.index("USER") > kinds.index("COPY")
    assert not [argument for _, argument in FINAL if "--chown" in argument or "chmod" in argument]
    assert FINAL[-1] == ("ENTRYPOINT", '["/opt/apache/beam/boot"]')


def test_the_context_is_what_is_copied_and_no_more():
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == set(copied())
    assert all((ROOT / name).exists() for name in copied())
    assert any(fnmatch.fnmatch("**/__pycache__", rule) for rule in rules[1:])


@pytest.mark.skipif(not HADOLINT, reason="hadolint is not here: make test-image")
def test_hadolint_finds_nothing():
    done = subprocess.run([HADOLINT, DOCKERFILE], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.skipif(not os.environ.get("METERVEIL_TEST_IMAGE"), reason="installs everything: make test-image")
def test_its_own_steps_install_a_program_that_runs(tmp_path):
    source, target = tmp_path / "src", tmp_path / "opt"
    source.mkdir()
    for name in copied():
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    for command in [argument for kind, argument in BUILD if kind == "RUN"]:
        here = command.replace(INSTALLED, str(target)).replace("python -m venv", f"{sys.executable} -m venv")
        subprocess.run(["sh", "-ec", here], check=True, cwd=source, env=own)
    for command in (
        ("meterveil", "--version"),
        ("meterveil-worker", "--help"),
        ("python", "-c", "import pipeline.ingest, psycopg, duckdb"),
        ("python", "-m", "apache_beam.runners.worker.worker_pool_main", "--help"),
    ):
        subprocess.run([target / "bin" / command[0], *command[1:]], check=True, cwd=tmp_path, env=own)
