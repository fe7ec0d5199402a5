"""Where a graph runs: options of a job service, what is said when a job fails, and workers that can't share a catalog."""

import os
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import apache_beam as beam
import grpc
import pytest
from apache_beam.portability.api import beam_job_api_pb2, beam_job_api_pb2_grpc
from apache_beam.runners.runner import PipelineRunner
from whole_job import ingest

from pipeline import begin
from pipeline.errors import MeterveilError, in_plain_words
from pipeline.runners import Engine, explain_failure, run_pipeline

IDENTIFIER = "643006966000000012"
#: As Flink passes on what a Python worker's harness says.
OF_WORKER = """java.lang.RuntimeException: Error received from SDK harness for instruction 7: Traceback (most recent call last):
  File "beam/sdk_worker.py", line 313, in _execute
    response = task()
pipeline.errors.BadFileError: /in/a.avro: it is cut short; deliver it again [while running 'PlanFiles-ptransform-33']

\tat org.apache.beam.runners.fnexecution.control.FnApiControlClient.handle(FnApiControlClient.java:174)
"""


def test_a_failure_on_a_worker_is_told_in_its_own_words():
    assert str(explain_failure(OF_WORKER)) == "/in/a.avro: it is cut short; deliver it again"
    assert str(explain_failure(OF_WORKER.replace(" [while", "\n[while"))).endswith("deliver it again")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("x\njava.io.IOException: Insufficient number of network buffers\n\tat a.B", "Insufficient number"),
        (f"ValueError: bad id {IDENTIFIER}", "for a reason that its log says"),
        ("", "for a reason that its log says"),
    ],
)
def test_of_any_other_failure_the_runners_own_words_are_told_and_no_others(said, words):
    line = str(explain_failure(said))
    assert words in line
    assert "nothing was committed" in line
    assert IDENTIFIER not in line
    assert "\n" not in line


def test_an_error_that_nobody_foresaw_leaves_a_step_without_its_words():
    with (
        pytest.raises(MeterveilError, match=r"ValueError in .*, line \d+, which nobody foresaw") as told,
        in_plain_words(),
    ):
        raise ValueError(IDENTIFIER)
    assert IDENTIFIER not in str(told.value)
    assert told.value.__suppress_context__


class _JobService(beam_job_api_pb2_grpc.JobServiceServicer):
    def DescribePipelineOptions(self, request, context):  # noqa: N802 - the protocol's name
        del request, context
        option = beam_job_api_pb2.PipelineOptionDescriptor(name="max_bundle_size")
        return beam_job_api_pb2.DescribePipelineOptionsResponse(options=[option])


@pytest.fixture
def endpoint():
    server = grpc.server(ThreadPoolExecutor(1))
    beam_job_api_pb2_grpc.add_JobServiceServicer_to_server(_JobService(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


@pytest.mark.parametrize("runner", ["FlinkRunner", "PortableRunner"])
def test_options_go_to_a_job_service_if_beam_or_the_service_knows_them(endpoint, runner):
    def fault_of(*flags: str) -> str:
        return Engine(runner, [f"--job_endpoint={endpoint}", *flags]).find_fault()

    assert fault_of("--max_bundle_size=5", "--parallelism=2") == ""
    assert fault_of("--max_bundle_sizes=5") == "unknown option --max_bundle_sizes"


def test_a_job_service_that_does_not_answer_is_named(monkeypatch):
    monkeypatch.setattr("pipeline.runners._ANSWER_S", 0.2)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        endpoint = "{}:{}".format(*nobody.getsockname())
        with pytest.raises(MeterveilError, match=f"no job service answers at {endpoint}"):
            Engine("FlinkRunner", [f"--job_endpoint={endpoint}"]).find_fault()


def test_workers_end_with_the_run_only_in_this_process():
    assert Engine().is_in_process
    assert Engine(flags=["--direct_running_mode=multi_threading", "--direct_num_workers=2"]).is_in_process
    assert not Engine(flags=["--direct_running_mode=multi_processing"]).is_in_process
    assert not Engine("FlinkRunner").is_in_process
    assert Engine("FlinkRunner").threads == 1


def test_a_worker_on_another_machine_than_the_catalogs_is_refused(tmp_path, fleet_run, monkeypatch):
    lake, files = tmp_path / "lake", [fleet_run.folder / "readings" / "*"]
    monkeypatch.setattr(begin, "tell_boot", lambda: "another-machine")
    with pytest.raises(MeterveilError, match=r"SQLite.*run all workers on the machine"):
        ingest(lake, files, fleet_run.keys, reference=fleet_run.folder / "reference", buckets=4)
    assert not list(lake.rglob("*.frames"))


class DataflowRuntimeException(Exception):  # noqa: N818 - the service's name
    """As the runner of a service tells a failure."""


def nothing() -> None:
    """Nothing happens."""


class _Service(PipelineRunner):
    """The runner of a service: its jobs outlive this process."""

    def __init__(self, as_it_runs=nothing, as_it_is_asked=nothing) -> None:
        super().__init__()
        self.as_it_runs, self.as_it_is_asked, self.cancelled = as_it_runs, as_it_is_asked, Event()

    def run_pipeline(self, pipeline, options):
        del pipeline, options
        self.as_it_is_asked()
        return self

    def wait_until_finish(self) -> None:
        self.as_it_runs()

    def cancel(self) -> None:
        self.cancelled.set()


def send(number) -> None:
    os.kill(os.getpid(), number)


def lose(number) -> None:
    """Send a signal so that an exception of its handler is lost, as in a callback of a client."""

    class Lost:
        def __del__(self) -> None:
            send(number)

    Lost()


def await_handler(number, before) -> None:
    """Wait until a signal was handled: the handler of before is back then."""
    deadline = time.monotonic() + 10
    while signal.getsignal(number) is not before and time.monotonic() < deadline:
        time.sleep(0.001)


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("send", [send, lose])
@pytest.mark.parametrize("moment", ["as_it_is_asked", "as_it_runs"])
def test_a_request_to_stop_cancels_the_job_of_a_service(number, send, moment):
    before = signal.getsignal(number)

    def happens() -> None:
        send(number)
        await_handler(number, before)
        if moment == "as_it_runs":
            assert runner.cancelled.wait(10)

    runner = _Service(**{moment: happens})
    for waits in (True, False) if moment == "as_it_is_asked" else (True,):
        runner.cancelled.clear()
        with pytest.raises(KeyboardInterrupt, match="asked to cancel the job"):
            run_pipeline(beam.Pipeline(runner=runner), waits=waits)
        assert runner.cancelled.is_set()
    assert signal.getsignal(number) is before


@pytest.mark.usefixtures("heard")
def test_whoever_has_interruptions_ignored_is_not_interrupted():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    runner = _Service(lambda: send(signal.SIGINT))
    run_pipeline(beam.Pipeline(runner=runner))
    assert not runner.cancelled.is_set()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


@pytest.mark.usefixtures("heard")
def test_whoever_asks_twice_waits_for_nothing():
    before = signal.getsignal(signal.SIGINT)

    def ask_twice() -> None:
        send(signal.SIGINT)
        await_handler(signal.SIGINT, before)  # two at once are one
        send(signal.SIGINT)
        time.sleep(10)

    runner = _Service(as_it_is_asked=ask_twice)
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        run_pipeline(beam.Pipeline(runner=runner))
    assert not runner.cancelled.is_set()


@pytest.mark.parametrize(
    ("raised", "told", "words"),
    [
        (DataflowRuntimeException(f"State: FAILED, Error:\n{OF_WORKER}"), MeterveilError, "deliver it again$"),
        (ImportError("apache_beam[gcp]"), MeterveilError, "not installed"),
        (ZeroDivisionError("ours"), ZeroDivisionError, "ours"),
    ],
)
def test_a_service_that_fails_is_told_like_any_other(raised, told, words):
    def fail() -> None:
        raise raised

    with pytest.raises(told, match=words):
        run_pipeline(beam.Pipeline(runner=_Service(fail)))
