"""A real REST catalog on loopback: Iceberg's own, in Java, behind a small HTTP server of ours (``rest/``)."""

import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from cluster import find_jars, find_java, resolve_jars, tell_version
from ports import LOOPBACK, find_ports
from servers import Server

SOURCE = Path(__file__).resolve().parent / "rest" / "RestServer.java"
POM = SOURCE.with_name("pom.xml")
_OLDEST_JAVA = 17  # that Iceberg runs on


@dataclass(frozen=True)
class RestCatalog:
    """A catalog that runs.

    Attributes:
        address: where.
        token: lets one in.
    """

    address: str
    token: str


def find_missing() -> str:
    """Say what it lacks on this machine; empty if nothing is missing."""
    java = find_java()
    if java is None or tell_version(java) < _OLDEST_JAVA or not Path(java).resolve().with_name("javac").exists():
        return f"no JDK {_OLDEST_JAVA}, which builds and runs a REST catalog"
    if not find_jars(POM).is_dir() and not shutil.which("mvn"):
        return "no Maven (mvn), which brings Iceberg's REST catalog"
    return ""


def compile_server(folder: Path) -> str:
    """Compile it; gives the class path that it is run with.

    Raises:
        MeterveilError: Maven failed.
    """
    jars = f"{resolve_jars(POM)}/*"
    compiler = Path(find_java()).resolve().with_name("javac")
    subprocess.run([compiler, "-d", folder, "-cp", jars, SOURCE], check=True)
    return f"{folder}:{jars}"


@contextmanager
def run_rest_catalog(classes: str, *, overwrites: bool = True) -> Iterator[RestCatalog]:
    """Run an empty catalog until the block ends.

    Args:
        classes: the class path.
        overwrites: whether it registers a table over one that is there, which Iceberg's catalogs do not by themselves.
    """
    (port,) = find_ports(1)
    token = secrets.token_hex(8)
    command = [find_java(), "-Xmx256m", "-XX:-UsePerfData", "-cp", classes, "RestServer"]
    command += [str(port), "overwrite" if overwrites else "plain"]
    with TemporaryDirectory(prefix="meterveil-rest-") as name:
        server = Server("REST catalog", command, port, {"REST_TOKEN": token}, Path(name) / "rest.log")
        try:
            server.start()
            yield RestCatalog(f"http://{LOOPBACK}:{port}", token)
        finally:
            server.stop()
