"""The manifests for Kubernetes: what the operator's own schema says of the cluster, and the program of the command."""

import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from pipeline.cli import build_parser
from pipeline.runners import Engine

MANIFESTS = Path(__file__).parents[2] / "deploy" / "flink" / "kubernetes"
#: Holds the definition that its operator installs in a cluster.
OPERATOR = "org.apache.flink:flink-kubernetes-operator-api:1.10.0"
COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy"
DEFINITION = "META-INF/fabric8/flinkdeployments.flink.apache.org-v1.yml"


def read(name: str):
    return yaml.safe_load((MANIFESTS / name).read_text(encoding="utf-8"))


CLUSTER, INGEST = read("cluster.yaml"), read("ingest.yaml")
WORKERS = CLUSTER["spec"]["taskManager"]["podTemplate"]["spec"]
COMMAND = INGEST["spec"]["jobTemplate"]["spec"]["template"]["spec"]


def close(schema):
    """Refuse what a schema does not name: Kubernetes would drop it without a word."""
    if isinstance(schema, list):
        return [close(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: close(part) for name, part in schema.items()}
    if closed.pop("x-kubernetes-int-or-string", False):
        closed["type"] = ["integer", "string"]
    if isinstance(closed.get("properties"), dict) and closed.get("type") == "object":
        closed["additionalProperties"] = False
    return closed


@pytest.fixture(scope="module")
def check(tmp_path_factory):
    """Make the check that the operator's definition is."""
    if not shutil.which("mvn"):
        pytest.skip("no Maven (mvn), which brings the operator's definitions")
    folder = tmp_path_factory.mktemp("operator")
    command = ["mvn", "-B", "-q", COPY, f"-Dartifact={OPERATOR}", f"-DoutputDirectory={folder}"]
    if subprocess.run(command, check=False, capture_output=True, cwd=folder).returncode:
        pytest.skip("Maven can't have the operator's definitions")
    [jar] = folder.glob("*.jar")
    definition = yaml.safe_load(zipfile.ZipFile(jar).read(DEFINITION))
    [version] = [found for found in definition["spec"]["versions"] if found["name"] == "v1beta1"]
    schema = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return Draft202012Validator(close(schema))


def test_the_operator_understands_the_cluster(check):
    assert CLUSTER["apiVersion"] == "flink.apache.org/v1beta1"
    assert [error.message for error in check.iter_errors(CLUSTER["spec"])] == []


def test_what_the_operator_does_not_know_would_be_found(check):
    spec = read("cluster.yaml")["spec"]
    spec["taskManager"]["podTemplate"]["spec"]["containers"][1]["readyness"] = {}
    spec["flinkConfiguration"]["parallelism.default"] = 2
    assert len(list(check.iter_errors(spec))) == 2


def test_kubernetes_understands_the_command():
    kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not here")
    kubernetes_validate.validate(INGEST, kubernetes_validate.latest_version(), strict=True)


def test_the_command_is_one_of_the_program():
    [ingest] = COMMAND["containers"]
    arguments, of_beam = build_parser().parse_known_args(ingest["args"])
    assert ingest["command"] == ["meterveil"]
    names = {flag.partition("=")[0] for flag in of_beam}
    assert names >= {"--job_endpoint", "--parallelism", "--environment_type"}
    # Flink's own options are known to its job service, which is not here.
    known = [flag for flag in of_beam if not flag.startswith(("--parallelism", "--flink_master"))]
    assert Engine("DirectRunner", known).find_fault() == ""
    options = dict(flag.removeprefix("--").split("=") for flag in of_beam)
    task_managers = CLUSTER["spec"]["taskManager"]["replicas"]
    slots = int(CLUSTER["spec"]["flinkConfiguration"]["taskmanager.numberOfTaskSlots"])
    assert int(options["parallelism"]) == task_managers * slots
    assert options["flink_master"] == f"{CLUSTER['metadata']['name']}-rest:8081"
    [pool] = [container for container in WORKERS["containers"] if container["name"] == "worker-pool"]
    assert options["environment_config"] == f"localhost:{pool['ports'][0]['containerPort']}"
    assert arguments.kek == f"env:{pool['env'][0]['name']}"


def test_workers_and_command_are_one_image_with_the_same_secrets_and_no_rights():
    [ingest] = COMMAND["containers"]
    [pool] = [container for container in WORKERS["containers"] if container["name"] == "worker-pool"]
    for same in ("image", "env", "envFrom", "securityContext"):
        assert ingest[same] == pool[same]
    assert pool["securityContext"]["runAsNonRoot"]
    assert pool["readinessProbe"]["tcpSocket"]["port"] == pool["ports"][0]["name"]
    assert not [entry for entry in pool["env"] if "value" in entry]
    for container in (*COMMAND["initContainers"], ingest, pool):
        assert container["resources"]["limits"]["memory"] == container["resources"]["requests"]["memory"]
