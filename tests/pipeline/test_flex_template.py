"""The flex template: its parameters are the command's options, and its launcher writes one run down and leaves."""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from apache_beam.portability.api import beam_runner_api_pb2
from graphs import find_secrets, steps_of
from test_dataflow import CLIENT, FOLDER, services  # noqa: F401 - a fixture

from pipeline.cli import build_parser
from pipeline.lake import open_lake
from pipeline.runners import Engine
from pipeline.runs import list_runs

sys.path.append(str(FOLDER))

import metadata
import template

ROOT = Path(__file__).parents[2]
METADATA = json.loads((FOLDER / "metadata.json").read_text(encoding="utf-8"))
PARAMETERS = {parameter["name"]: parameter for parameter in METADATA["parameters"]}
DOCKERFILE = (FOLDER / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
SHELLCHECK = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
#: A value that each parameter takes; the others are places.
GIVEN = {
    "readings": "gs://a/inbox/* gs://b/one.parquet",
    "kek": "env:METERVEIL_KEK",
    "format": "avro",
    "registered_at": "now",
    "time_zone": "Europe/Helsinki",
    "buckets": "8",
    "catalog": "postgresql://10.0.0.3/lake",
    "max_quarantined": "1%",
    "skip_bad_files": "true",
    "force": "false",
    "sdk_container_image": "europe-north1-docker.pkg.dev/example/meterveil/dataflow:0.1.0",
    "number_of_worker_harness_threads": "2",
}
#: What Google's launcher adds of its own.
OF_LAUNCHER = {
    "runner": "DataflowRunner",
    "project": "example-project",
    "region": "europe-north1",
    "job_name": "meterveil-of-a-test",
    "machine_type": "n2d-standard-4",
    "subnetwork": "regions/europe-north1/subnetworks/meterveil",
    "service_account_email": "worker@example-project.iam.gserviceaccount.com",
    "temp_location": "gs://example-dataflow/temp",
    "staging_location": "gs://example-dataflow/staging",
    "template_location": "gs://example-dataflow/staging/template_launches/1/job_object",
    "no_use_public_ips": "true",
}


def say(values: dict[str, str]) -> list[str]:
    return [f"--{name}={value}" for name, value in values.items()]


def test_the_description_is_of_the_options_that_there_are(monkeypatch, tmp_path):
    assert metadata.main([]) == 0
    monkeypatch.setattr(metadata, "FILE", tmp_path / "metadata.json")
    assert metadata.main(["--write"]) == 0
    assert json.loads((tmp_path / "metadata.json").read_text()) == METADATA
    (tmp_path / "metadata.json").write_text("{}")
    assert metadata.main([]) == 1


def test_the_service_understands_the_description():
    types = pytest.importorskip("google.cloud.dataflow_v1beta3.types")
    told = types.TemplateMetadata.from_json(json.dumps(METADATA))  # refuses what it doesn't know
    assert [parameter.name for parameter in told.parameters] == list(PARAMETERS)
    assert types.ParameterType.DEFAULT not in {parameter.param_type for parameter in told.parameters}
    assert all(parameter.label and parameter.help_text for parameter in told.parameters)


def test_every_option_is_a_parameter_or_left_out_for_a_reason():
    own, _ = build_parser().parse_known_args(["ingest", "--lake=l", "--keyset=k", "--kek=e"])
    ours = vars(own).keys() - {"log_level", "version", "run", "parser", "beam_options"}
    assert ours == (template.list_options().keys() | template.LEFT_OUT) - {"help"}
    assert PARAMETERS.keys() >= template.list_options().keys()
    required = {name for name, parameter in PARAMETERS.items() if not parameter["isOptional"]}
    assert required == {"lake", "keyset", "kek", "sdk_container_image"}


def test_what_is_given_becomes_the_command_with_its_values():
    values = {name: GIVEN.get(name, f"gs://example/{name}") for name in PARAMETERS}
    for name, value in values.items():
        assert all(re.search(regex, value) for regex in PARAMETERS[name].get("regexes", ())), name
    asked, flags = build_parser().parse_known_args(template.make_arguments(say(values | OF_LAUNCHER)))
    assert asked.readings == values["readings"].split()
    assert (asked.detach, asked.skip_bad_files, asked.force) == (True, True, False)
    assert (asked.buckets, asked.max_quarantined, asked.runner) == (8, 0.01, "DataflowRunner")
    places = ("reference", "lake", "policy", "keyset", "mapping")
    assert {name: str(getattr(asked, name)) for name in places} == {name: values[name] for name in places}
    engine = Engine(asked.runner, flags)
    assert (engine.find_fault(), engine.writes_template) == ("", True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lake", "lake"),
        ("keyset", "keyset.json"),
        ("kek", "kek.bin"),
        ("readings", "gs://a/b c"),
        ("force", "yes"),
        ("buckets", "eight"),
    ],
)
def test_what_can_not_be_there_is_refused_before_anything_starts(name, value):
    assert not all(re.search(regex, value) for regex in PARAMETERS[name]["regexes"])


def test_an_empty_parameter_is_none_and_a_switch_is_true_or_false():
    assert template.make_arguments(["--policy=", "--force=", "--readings="]) == ["ingest", *template.FIXED]
    with pytest.raises(ValueError, match="force is true or false"):
        template.make_arguments(["--force=yes"])


def test_the_image_has_launcher_harness_and_command_in_one():
    assert f"FLEX_TEMPLATE_PYTHON_PY_FILE=/opt/meterveil/{Path(template.__file__).name}" in DOCKERFILE
    launcher = "/opt/google/dataflow/python_template_launcher"
    assert f"COPY --from=launcher {launcher} {launcher}\n" in DOCKERFILE
    # Of the Python that the other image has, and no tag that moves; nothing is installed when a worker starts.
    assert re.search(r"^FROM gcr.io/dataflow-templates-base/python311-\S+:\d\S+ AS launcher$", DOCKERFILE, re.MULTILINE)
    assert "FLEX_TEMPLATE_PYTHON_REQUIREMENTS_FILE" not in DOCKERFILE
    copied = re.search(r"^COPY (requirements.*) /opt/meterveil/$", DOCKERFILE, re.MULTILINE)[1].split()
    assert all((FOLDER / name).is_file() for name in copied)
    assert "template.py" in copied
    assert "gcr.io" not in (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")


@pytest.fixture
def launch(tmp_path, fleet_run, services, monkeypatch):  # noqa: F811 - the fixture
    """Start what Google's launcher starts, with the KEK in a secret; gives a function of the place of the graph."""
    if not CLIENT:
        pytest.skip("Dataflow's client is not here: pip install -r deploy/dataflow/requirements.txt")
    kek = Path(fleet_run.keys["kek"]).read_bytes()
    monkeypatch.setattr("test_dataflow.WORDS", base64.urlsafe_b64encode(kek).decode())  # what the service answers
    program = tmp_path / "bin" / "meterveil"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -c "from pipeline.cli import main; exit(main())" "$@"\n')
    program.chmod(0o700)
    (tmp_path / "staging").mkdir()

    def start(**more: str) -> subprocess.CompletedProcess[str]:
        here = {
            "readings": str(fleet_run.folder / "readings" / "*"),
            "reference": str(fleet_run.folder / "reference"),
            "lake": str(tmp_path / "lake"),
            "keyset": str(fleet_run.keys["keyset"]),
            "kek": "env:METERVEIL_KEK",
            "buckets": "4",
            "sdk_container_image": GIVEN["sdk_container_image"],
        }
        local = {
            "staging_location": str(tmp_path / "staging"),
            "temp_location": str(tmp_path / "staging"),
            "template_location": str(tmp_path / "staging" / "job"),
            "dataflow_endpoint": "http://localhost:1",  # nobody is asked
            "no_auth": "true",
        }
        environment = {
            "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "GCE_METADATA_HOST": services,
            "SECRET_MANAGER_URL": f"http://{services}",
            "METERVEIL_SECRETS": "METERVEIL_KEK=projects/p/secrets/kek/versions/1",
        }
        command = [sys.executable, FOLDER / "template.py", *say(here | OF_LAUNCHER | local | more)]
        return subprocess.run(command, check=False, capture_output=True, text=True, env=os.environ | environment)

    return start


def test_the_launcher_writes_the_graph_down_without_a_secret_and_leaves(launch, tmp_path, fleet_run):
    done = launch()
    assert (done.returncode, done.stderr) == (0, "")
    run_id = re.fullmatch(r"run (\S+) goes on by itself\n", done.stdout)[1]
    [run] = list_runs(open_lake(tmp_path / "lake"))
    assert (run.run_id, run.state, bool(run.until)) == (run_id, "at work", True)
    job = json.loads((tmp_path / "staging" / "job").read_text())
    assert job["name"] == OF_LAUNCHER["job_name"]
    images = {image["containerImage"] for image in job["environment"]["workerPools"][0]["sdkHarnessContainerImages"]}
    assert images == {GIVEN["sdk_container_image"]}
    written = [path.read_bytes() for path in (tmp_path / "staging").rglob("*") if path.is_file()]
    [graph] = (path.read_bytes() for path in (tmp_path / "staging").rglob("pipeline.pb"))
    told = b"".join([*written, steps_of(beam_runner_api_pb2.Pipeline.FromString(graph))])
    assert run_id.encode() in told  # so a key would be found
    assert not find_secrets(told, fleet_run)


def test_what_is_wrong_is_told_by_the_launcher_before_there_is_a_job(launch, tmp_path):
    done = launch(policy=str(tmp_path / "none.yaml"))
    assert (done.returncode, done.stdout) == (1, "")
    assert "none.yaml" in done.stderr
    assert not (tmp_path / "staging" / "job").exists()


SETTINGS = {
    "PROJECT": "example-project",
    "REGION": "europe-north1",
    "TEMPLATE": "gs://example-dataflow/ingest.json",
    "IMAGE": GIVEN["sdk_container_image"],
    "WORKER_ACCOUNT": OF_LAUNCHER["service_account_email"],
    "SUBNETWORK": OF_LAUNCHER["subnetwork"],
    "TEMP": OF_LAUNCHER["temp_location"],
    "STAGING": OF_LAUNCHER["staging_location"],
    "KMS_KEY": "projects/example-project/locations/europe-north1/keyRings/meterveil/cryptoKeys/dataflow",
}


def submit(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"]} | SETTINGS | more
    command = ["sh", FOLDER / "submit.sh", *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, env=environment)


def test_what_is_submitted_is_encrypted_inside_and_has_the_parameters_whole():
    given = ["readings=gs://a/inbox/* gs://b/one,two.parquet", "lake=gs://example-lake/main"]
    done = submit("--print", "run", *given)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[:4] == ["gcloud", "dataflow", "flex-template", "run"]
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", lines[4])  # a job's name
    assert [f"--parameters=^|^{parameter}" for parameter in given] == lines[-2:]
    assert {"--disable-public-ips", f"--dataflow-kms-key={SETTINGS['KMS_KEY']}"} <= set(lines)
    assert f"--parameters=sdk_container_image={SETTINGS['IMAGE']}" in lines


def test_what_is_started_is_what_is_printed(tmp_path):
    (tmp_path / "gcloud").write_text("#!/bin/sh\nprintf '%s\\n' gcloud \"$@\"\n")
    (tmp_path / "gcloud").chmod(0o700)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    started, printed = submit("build", PATH=path), submit("--print", "build")
    assert (started.returncode, started.stdout) == (0, printed.stdout)
    [described] = [line for line in printed.stdout.splitlines() if line.startswith("--metadata-file=")]
    assert Path(described.partition("=")[2]).samefile(FOLDER / "metadata.json")


@pytest.mark.parametrize(
    ("arguments", "settings", "said"),
    [
        ([], {}, "build or run?"),
        (["stop"], {}, "build or run?"),
        (["build", "lake=gs://l"], {}, "build takes no parameters"),
        (["run", "lake"], {}, "NAME=VALUE"),
        (["run", "lake=gs://a|b"], {}, "a parameter has a |"),
        (["run", "lake=gs://l"], {"KMS_KEY": ""}, "KMS_KEY is not set"),
        (["build"], {"IMAGE": ""}, "IMAGE is not set"),
    ],
)
def test_wrong_usage_starts_nothing(arguments, settings, said):
    done = submit("--print", *arguments, **settings)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def test_help_names_every_setting():
    done = submit("--help", **dict.fromkeys(SETTINGS, ""))
    assert done.returncode == 0
    assert all(name in done.stdout for name in SETTINGS)


@pytest.mark.skipif(not SHELLCHECK, reason="shellcheck is not here")
def test_shellcheck_finds_nothing():
    done = subprocess.run([SHELLCHECK, FOLDER / "submit.sh"], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
