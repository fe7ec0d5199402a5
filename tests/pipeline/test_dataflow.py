"""Dataflow, as far as it shows without one: what is submitted, translated by its own runner, and how secrets are opened."""

import base64
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from apache_beam.portability import common_urns
from apache_beam.portability.api import beam_runner_api_pb2
from graphs import OF_READINGS, coders_between, find_secrets, is_pickled, steps_of, wire_ingest

from pipeline.cli import build_parser
from pipeline.runners import Engine

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "dataflow"
JOB = yaml.safe_load((FOLDER / "ingest.yaml").read_text(encoding="utf-8"))
TASK = JOB["spec"]["template"]["spec"]["template"]["spec"]
[CONTAINER] = TASK["containers"]
ASKED, FLAGS = build_parser().parse_known_args(CONTAINER["args"])
OPTIONS = dict(flag.removeprefix("--").partition("=")[::2] for flag in FLAGS)
#: Whether what the extra gcp brings is here.
CLIENT = find_spec("google") and find_spec("google.cloud") and find_spec("google.cloud.dataflow")
#: Steps that the commit reads as side inputs: there Dataflow puts a coder of Beam's own, whatever the type.
TO_COMMIT = {"PlanFiles", "ReadReadings", "FoldCells", "DeriveEntities", "WriteQuarantine", "Commit"}
WORDS = "correct horse battery staple"


def test_the_job_that_launches_is_a_command_that_there_is():
    assert CONTAINER["args"][0] == "ingest"
    assert Engine(ASKED.runner, FLAGS).find_fault() == ""
    assert ASKED.runner == "DataflowRunner"
    # Nothing is on the launcher's disk, and secrets are variables.
    places = [*ASKED.readings, str(ASKED.reference), str(ASKED.lake), str(ASKED.keyset)]
    assert all(place.startswith("gs://") for place in places)
    assert ASKED.kek.startswith("env:")
    assert OPTIONS["sdk_container_image"] == CONTAINER["image"]
    assert TASK["serviceAccountName"] != OPTIONS["service_account_email"]


def test_workers_are_inside_and_encrypt_with_a_key_of_the_owner():
    assert OPTIONS.keys() >= {"no_use_public_ips", "subnetwork", "dataflow_kms_key", "max_num_workers"}
    assert OPTIONS["sdk_location"] == "container"


def test_the_image_names_secrets_by_version_and_becomes_what_the_job_runs():
    text = (FOLDER / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    [entrypoint] = [line for line in text.splitlines() if line.startswith("ENTRYPOINT ")]
    assert json.loads(entrypoint.partition(" ")[2])[:2] == CONTAINER["command"][:2]
    variables = [
        entry.partition("=")[0] for entry in text.partition('METERVEIL_SECRETS="')[2].partition('"')[0].split()
    ]
    assert ASKED.kek.removeprefix("env:") in variables
    assert "USER 10001" in text
    assert ":latest" not in text


def test_what_the_image_adds_is_pinned_and_replaces_one_package_alone():
    def pins(path: Path) -> dict[str, str]:
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
        assert all("==" in line for line in lines)
        return dict(line.split("==") for line in lines)

    added, tested = pins(FOLDER / "requirements.txt"), pins(ROOT / "constraints.txt")
    assert added["google-cloud-dataflow-client"]
    assert added.keys() & tested.keys() == {"cachetools"}


@pytest.fixture(scope="module")
def submitted(fleet_run):
    """Translate the job by Dataflow's own runner, without submitting it: its graph, coders and options."""
    if not CLIENT:
        pytest.skip("Dataflow's client is not here: pip install -r deploy/dataflow/requirements.txt")
    pipeline = Engine(ASKED.runner, [*FLAGS, "--dry_run=True"]).make_pipeline()
    wire_ingest(pipeline, fleet_run)
    job = pipeline.run().job
    return job.proto_pipeline, pipeline.runner.proto_context, job.options


def test_all_of_it_runs_in_our_image_and_in_no_other(submitted):
    proto, _, _ = submitted
    used = {step.environment_id for step in proto.components.transforms.values()} - {""}
    assert used
    for environment in proto.components.environments.values():
        assert environment.urn == common_urns.environments.DOCKER.urn
        image = beam_runner_api_pb2.DockerPayload.FromString(environment.payload).container_image
        assert image == CONTAINER["image"]
        assert not environment.dependencies  # nothing is installed beside it


def test_dataflow_keeps_our_coders_on_readings_and_changes_those_of_what_the_commit_reads_alone(submitted):
    proto, context, _ = submitted
    between = coders_between(proto, context)
    assert between.keys() >= OF_READINGS
    assert {step for step, found in between.items() if any(map(is_pickled, found))} <= TO_COMMIT
    frames_rejected_totals = [is_pickled(coder) for coder in between["ReadReadings"]]
    assert sum(frames_rejected_totals) == 1  # totals


def test_no_secret_is_submitted(submitted, fleet_run):
    proto, _, options = submitted
    told = steps_of(proto) + proto.SerializeToString() + repr(options.get_all_options()).encode()
    assert str(fleet_run.keys["keyset"]).encode() in told  # so a key would be found
    assert not find_secrets(told, fleet_run)


class _Services(BaseHTTPRequestHandler):
    """Answers as a machine's metadata server and as Secret Manager."""

    def do_GET(self) -> None:
        answer, code = {}, 403
        if "computeMetadata" in self.path and self.headers["Metadata-Flavor"] == "Google":
            answer, code = {"access_token": "token-of-a-test"}, 200
        elif self.headers["Authorization"] == "Bearer token-of-a-test" and "/secrets/kek/" in self.path:
            answer, code = {"payload": {"data": base64.b64encode(WORDS.encode()).decode()}}, 200
        elif "/secrets/broken/" in self.path:
            answer, code = {"payload": {"date": WORDS}}, 200
        self.send_response(code)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def services():
    with ThreadingHTTPServer(("127.0.0.1", 0), _Services) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def start(services: str, wanted: str) -> subprocess.CompletedProcess[str]:
    program = [
        sys.executable,
        "-c",
        "import os; print(os.environ.get('METERVEIL_KEK'), 'METERVEIL_SECRETS' in os.environ)",
    ]
    own = {"GCE_METADATA_HOST": services, "SECRET_MANAGER_URL": f"http://{services}", "METERVEIL_SECRETS": wanted}
    command = [sys.executable, FOLDER / "with_secrets.py", *program]
    return subprocess.run(command, check=False, capture_output=True, text=True, env=os.environ | own)


def test_a_worker_starts_with_its_secrets_in_its_environment(services):
    done = start(services, "METERVEIL_KEK=projects/p/secrets/kek/versions/3")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{WORDS} False\n", "")
    assert start(services, "").stdout == "None False\n"


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("METERVEIL_KEK=projects/p/secrets/kek/versions/latest", "METERVEIL_SECRETS: entry 1 is not NAME="),
        (WORDS, "METERVEIL_SECRETS: entry 1 is not NAME="),
        ("METERVEIL_KEK=projects/p/secrets/other/versions/1", "refuses with 403"),
        ("METERVEIL_KEK=projects/p/secrets/broken/versions/1", "answers something else"),
    ],
)
def test_without_a_secret_nothing_starts_and_a_line_says_why(services, wanted, said):
    done = start(services, wanted)
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not [word for word in WORDS.split() if word in done.stderr]


def test_where_no_service_answers_nothing_starts():
    done = start("127.0.0.1:1", "METERVEIL_KEK=projects/p/secrets/kek/versions/1")
    assert (done.returncode, done.stdout) == (1, "")
    assert "no service answers" in done.stderr
