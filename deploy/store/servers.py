"""Object stores and a catalog server on this machine's loopback, to try a lake of many machines with.

The stores are versitygw, an S3 server, and fake-gcs-server, which speaks as Google Cloud Storage does: both over a
folder, built from their Go modules. The catalog server is a PostgreSQL of the system's packages.
``python deploy/store/servers.py`` keeps the S3 server and PostgreSQL until Ctrl-C and says how to use them.
"""

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.errors import MeterveilError

sys.path.append(str(Path(__file__).resolve().parents[1]))

from ports import LOOPBACK, find_ports

ROOT = Path(__file__).resolve().parents[2]
BUCKET = "lakes"
#: Where the stores' programs are kept, which Go builds of these modules.
_BUILT = ROOT / "build" / "store"
_S3_MODULE = "github.com/versity/versitygw/cmd/versitygw@v1.8.0"
_GOOGLE_MODULE = "github.com/fsouza/fake-gcs-server@v1.56.1"
_READY_S, _ENDED_S, _POLL_S = 30.0, 15.0, 0.05


@dataclass(slots=True)
class Server:
    """A server that can be stopped, killed and started again, at the same port.

    Attributes:
        title: for errors.
        command: starts it.
        port: where it listens.
        environment: its own.
        log: file of what it says.
        user: as whom it works; None for this user.
        abrupt: the signal that ends it at once, with all that it has started.
        process: it, while it works.
    """

    title: str
    command: Sequence[str]
    port: int
    environment: Mapping[str, str]
    log: Path
    user: int | None = None
    abrupt: int = signal.SIGKILL
    process: subprocess.Popen[bytes] | None = field(default=None)

    def start(self) -> None:
        """Start it, and wait until it listens.

        Raises:
            MeterveilError: it does not; its last words are told.
        """
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                user=self.user,
                start_new_session=True,
            )
        deadline = time.monotonic() + _READY_S
        while not _listens(self.port):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                words = self.log.read_text(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
                raise MeterveilError(f"it does not come up: {words[0]}", where=self.title)
            time.sleep(_POLL_S)

    def kill(self) -> None:
        """End it at once, in the middle of whatever it does."""
        self._end(self.abrupt)

    def stop(self) -> None:
        """End it; PostgreSQL ends its sessions at SIGINT, and does not wait for them."""
        self._end(signal.SIGINT)

    def _end(self, how: int) -> None:
        if self.process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, how)
        try:
            self.process.wait(_ENDED_S)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.process = None


@dataclass(frozen=True, slots=True)
class Servers:
    """Both servers.

    Attributes:
        s3: the store; its objects are files below ``objects``.
        objects: folder of the bucket.
        postgres: the catalog server.
        environment: what a process needs to use them: where the store is, and both servers' users and passwords.
    """

    s3: Server
    objects: Path
    postgres: Server
    environment: Mapping[str, str]

    def catalog(self, name: str) -> str:
        """Give the address of a new lake's database."""
        self.ask(f'CREATE DATABASE "{name}"')
        return f"postgresql://{LOOPBACK}:{self.postgres.port}/{name}"

    def ask(self, sql: str, database: str = "postgres") -> str:
        """Ask the catalog server, by ``psql``."""
        command = ["psql", "-h", LOOPBACK, "-p", str(self.postgres.port), "-d", database, "-XAtc", sql]
        return subprocess.run(
            command, check=True, capture_output=True, text=True, env={**os.environ, **self.environment}
        ).stdout


def find_missing() -> str:
    """Say what the servers lack on this machine; empty if nothing is missing."""
    if not _is_built(_S3_MODULE) and not shutil.which("go"):
        return "no Go, which builds the S3 server"
    if _find_postgres() is None or not shutil.which("psql"):
        return "no PostgreSQL: install the system's packages postgresql and postgresql-client"
    return ""


@contextmanager
def run_servers() -> Iterator[Servers]:
    """Run both servers until the block ends; no process, port or file of them is left.

    Raises:
        MeterveilError: something is missing, or one of them does not come up.
    """
    if missing := find_missing():
        raise MeterveilError(missing, where="servers")
    _build(_S3_MODULE)
    with TemporaryDirectory(prefix="meterveil-store-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        objects = folder / "objects"
        (objects / BUCKET).mkdir(parents=True)
        s3, postgres = _describe_s3(folder, objects), _prepare_postgres(folder)
        environment = {
            "AWS_ACCESS_KEY_ID": s3.environment["ROOT_ACCESS_KEY"],
            "AWS_SECRET_ACCESS_KEY": s3.environment["ROOT_SECRET_KEY"],
            "AWS_ENDPOINT_URL": f"http://{LOOPBACK}:{s3.port}",
            "AWS_REGION": "us-east-1",
            "PGUSER": "lake",
            "PGPASSWORD": (folder / "password").read_text(),
        }
        try:
            s3.start()
            postgres.start()
            yield Servers(s3, objects / BUCKET, postgres, environment)
        finally:
            s3.stop()
            postgres.stop()


@contextmanager
def run_google() -> Iterator[tuple[Path, Mapping[str, str]]]:
    """Run a store that speaks as Google's until the block ends; gives its bucket's folder, and what a process needs.

    Raises:
        MeterveilError: it can't be built, or does not come up.
    """
    if not _is_built(_GOOGLE_MODULE) and not shutil.which("go"):
        raise MeterveilError("no Go, which builds it", where="Google store")
    program = _build(_GOOGLE_MODULE)
    (port,) = find_ports(1)
    address = f"{LOOPBACK}:{port}"
    with TemporaryDirectory(prefix="meterveil-store-") as name:
        objects = Path(name) / "objects"
        (objects / BUCKET).mkdir(parents=True)
        options = {"scheme": "http", "host": LOOPBACK, "port": port, "public-host": address, "filesystem-root": objects}
        flags = [f"-{option}={value}" for option, value in options.items()]
        server = Server("Google store", [str(program), *flags, "-log-level=warn"], port, {}, Path(name) / "google.log")
        try:
            server.start()
            yield objects / BUCKET, {"STORAGE_EMULATOR_HOST": f"http://{address}"}
        finally:
            server.stop()


def _program_of(module: str) -> Path:
    return _BUILT / module.partition("@")[0].rpartition("/")[2]


def _is_built(module: str) -> bool:
    return _program_of(module).exists()


def _build(module: str) -> Path:
    program = _program_of(module)
    if program.exists():
        return program
    _BUILT.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["go", "install", module],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "GOBIN": str(_BUILT)},
    )
    if done.returncode:
        words = done.stderr.strip().splitlines()[-1:] or [""]
        raise MeterveilError(f"its module can't be built: {words[0]}", where=program.name)
    return program


def _describe_s3(folder: Path, objects: Path) -> Server:
    (port,) = find_ports(1)
    environment = {"ROOT_ACCESS_KEY": secrets.token_hex(8), "ROOT_SECRET_KEY": secrets.token_hex(16)}
    program = str(_program_of(_S3_MODULE))
    command = [program, "--port", f"{LOOPBACK}:{port}", "--quiet", "posix", str(objects)]
    return Server("S3 server", command, port, environment, folder / "s3.log")


def _prepare_postgres(folder: Path) -> Server:
    found = _find_postgres()
    assert found
    data, password = folder / "postgres", folder / "password"
    (port,) = find_ports(1)
    password.write_text(secrets.token_hex(16))
    data.mkdir()
    user = None
    if os.geteuid() == 0:  # PostgreSQL refuses to work as root
        user = pwd.getpwnam("postgres").pw_uid
        os.chown(data, user, -1)
        os.chown(password, user, -1)
    password.chmod(0o600)
    options = ["--username=lake", f"--pwfile={password}", "--auth=scram-sha-256", "--no-sync", "--encoding=UTF8"]
    subprocess.run(
        [str(found / "initdb"), f"--pgdata={data}", *options, "--locale=C"],
        check=True,
        capture_output=True,
        cwd="/",
        user=user,
    )
    settings = {"listen_addresses": LOOPBACK, "port": port, "unix_socket_directories": "", "fsync": "off"}
    flags = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    command = [str(found / "postgres"), "-D", str(data), *flags]
    return Server("PostgreSQL", command, port, {}, folder / "postgres.log", user, signal.SIGQUIT)


def _find_postgres() -> Path | None:
    """Find the newest PostgreSQL's programs: Debian has them where no PATH leads."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    if places:
        return places[-1]
    found = shutil.which("postgres")
    return Path(found).resolve().parent if found else None


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((LOOPBACK, port)) == 0


def main() -> None:
    """Keep both servers until Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt), run_servers() as servers:
        for name, value in servers.environment.items():
            print(f"export {name}={value}")
        catalog = servers.catalog("lake")
        print(f"meterveil init --lake s3://{BUCKET}/lake --catalog {catalog} --buckets 4", flush=True)
        signal.pause()


if __name__ == "__main__":
    main()
