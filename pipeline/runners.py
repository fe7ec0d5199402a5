"""Where a graph runs: in this process, or on a cluster behind a job service; and in a line, why it failed there."""

import io
import logging
import os
import re
import secrets
import signal
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, suppress
from dataclasses import dataclass
from queue import SimpleQueue
from tempfile import TemporaryDirectory
from threading import Thread

import apache_beam as beam
import grpc
from apache_beam.options.pipeline_options import (
    DirectOptions,
    FlinkRunnerOptions,
    GoogleCloudOptions,
    PipelineOptions,
    PortableOptions,
    SetupOptions,
)
from apache_beam.portability.api import beam_job_api_pb2, beam_job_api_pb2_grpc
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
from apache_beam.runners.portability.portable_runner import PortableRunner
from apache_beam.runners.runner import PipelineResult, PipelineRunner, create_runner

from pipeline.errors import MeterveilError
from pipeline.flink import cancel_job

_LOCAL = ("DirectRunner", "FnApiRunner")
#: What Beam adds to the text of an error that a step raised.
_SUFFIX = " [while running"
#: An error of ours in the traceback that a worker's runner passes on.
_OURS = re.compile(rf"pipeline\.errors\.\w+: (.*?)(?:{re.escape(_SUFFIX)}|\n|\\n|$)")
#: The first words of an error of the runner itself; what follows a colon may be anything.
_OF_RUNNER = re.compile(r"(?:java|org\.apache)\.[\w.$]+(?:Exception|Error)\b(?:: [^\n]*)?")
_MOST_WORDS = 300
#: Errors of services whose runner tells a failure by one of its own; by name, since importing it brings their clients.
_OF_SERVICES = frozenset({"DataflowRuntimeException"})
_ASKED = "interrupted, and the service asked to cancel the job; run it again: it clears away what was left"
#: How long a job service may take to answer.
_ANSWER_S = 20.0


@dataclass(frozen=True, slots=True)
class Engine:
    """A runner of Beam's, and the options that it is given.

    Attributes:
        runner: its name; ``DirectRunner`` is the in-process engine.
        flags: options for Beam.
    """

    runner: str = "DirectRunner"
    flags: Sequence[str] = ()

    @property
    def is_in_process(self) -> bool:
        """Whether all that works on a run ends with this process."""
        mode = PipelineOptions(list(self.flags)).view_as(DirectOptions).direct_running_mode
        return self.runner in _LOCAL and mode != "multi_processing"

    @property
    def writes_template(self) -> bool:
        """Whether the graph is only written down: Dataflow begins a template's job when its launcher has ended."""
        return bool(PipelineOptions(list(self.flags)).view_as(GoogleCloudOptions).template_location)

    @property
    def threads(self) -> int:
        """Threads a worker works with: elsewhere, workers are as many as the runner has processors to give."""
        return (os.cpu_count() or 1) if self.is_in_process else 1

    def find_fault(self) -> str:
        """Say what is wrong with the options, which Beam passes over if it doesn't know them; empty if nothing is.

        Raises:
            MeterveilError: the job service that may know them does not answer.
        """
        said = io.StringIO()
        try:
            with redirect_stderr(said):
                options = PipelineOptions(list(self.flags))
                unknown = options.get_all_options(retain_unknown_options=True).keys() - options.get_all_options().keys()
        except SystemExit:
            return said.getvalue().strip().rpartition("error: ")[2]
        if self.runner not in _LOCAL and (endpoint := options.view_as(PortableOptions).job_endpoint):
            unknown -= _ask_for_options(endpoint)
        named = (flag.partition("=")[0] for flag in self.flags)
        stray = [flag for flag in named if flag.lstrip("-").replace("-", "_") in unknown]
        stray += [flag for flag in self.flags[:1] if not flag.startswith("-")]
        return f"unknown option {stray[0]}" if stray else ""

    def make_pipeline(self) -> beam.Pipeline:
        """Make a pipeline that will run here.

        Raises:
            MeterveilError: there is no such runner.
        """
        options = PipelineOptions(list(self.flags))
        named = options.view_as(GoogleCloudOptions)  # where Beam keeps it for every runner
        named.job_name = named.job_name or f"meterveil-{secrets.token_hex(8)}"
        # Beam would pickle what is in __main__, and send it along: all that works is in modules.
        options.view_as(SetupOptions).save_main_session = False
        return beam.Pipeline(runner=self._make_runner(), options=options)

    def _make_runner(self) -> PipelineRunner:
        try:
            # Plain DirectRunner would look for another runner to download first.
            return FnApiRunner() if self.runner in _LOCAL else create_runner(self.runner)
        except (ValueError, ImportError, AttributeError):
            raise MeterveilError(
                "there is no such runner", where="--runner", remedy="name one of Beam's: DirectRunner, FlinkRunner …"
            ) from None


def run_pipeline(pipeline: beam.Pipeline, *, waits: bool = True) -> None:
    """Run a pipeline to its end; a job service is asked to cancel it if this process is interrupted.

    Args:
        pipeline: what to run.
        waits: whether to stay until its end; else only until a cluster has it, or it is written down for a template.

    Raises:
        MeterveilError: it failed, in the words of the step that did if there are any.
    """
    try:
        with _without_tracebacks(), _own_temporaries(pipeline):
            _run(pipeline, waits=waits)
    except MeterveilError as error:
        raise MeterveilError(str(error).partition(_SUFFIX)[0]) from None
    except grpc.FutureTimeoutError:
        raise _tell_silence(pipeline.options.view_as(PortableOptions).job_endpoint) from None
    except grpc.RpcError:
        raise MeterveilError(
            "the job service ended before the job did",
            where="--job_endpoint",
            remedy="run it again: what the job may have committed all the same is not read twice",
        ) from None
    except ImportError:
        raise MeterveilError(
            "packages of this runner are not installed", where="--runner", remedy="install them: apache-beam[gcp] …"
        ) from None
    except Exception as error:
        if not isinstance(error, RuntimeError) and type(error).__name__ not in _OF_SERVICES:
            raise
        raise explain_failure(str(error)) from None


def _run(pipeline: beam.Pipeline, *, waits: bool) -> None:
    if isinstance(pipeline.runner, FnApiRunner):
        pipeline.run().wait_until_finish()
        return
    with _noted_interruptions() as notes:
        result = pipeline.run()
        if waits:
            Thread(target=_wait, args=(result, notes), daemon=True).start()
        elif notes.empty():
            return
        if not isinstance(ended := notes.get(), KeyboardInterrupt):
            if ended:
                raise ended
            return
        with suppress(grpc.RpcError):  # a job service of this terminal heard it too, and may be gone
            result.cancel()
        is_portable = isinstance(pipeline.runner, PortableRunner)
        raise KeyboardInterrupt(_cancel_there(pipeline.options) if is_portable else _ASKED)


def _wait(result: PipelineResult, notes: "SimpleQueue[BaseException | None]") -> None:
    """Note how a job ended: with an error, or with none."""
    try:
        result.wait_until_finish()
    except BaseException as error:  # noqa: BLE001 - whoever waits for the note raises it
        notes.put(error)
    else:
        notes.put(None)


def _cancel_there(options: PipelineOptions) -> str:
    """Cancel the job on the cluster, and say what became of it."""
    master = options.view_as(FlinkRunnerOptions).flink_master
    name = options.view_as(GoogleCloudOptions).job_name
    if master.startswith("["):
        return f"interrupted; the job {name} may go on: cancel it there, or name --flink_master, and it will be"
    try:
        cancel_job(master, name)
    except (OSError, ValueError):
        return f"interrupted; the cluster at {master} does not cancel the job {name}, which may go on: look there"
    return "interrupted, and the job cancelled; run it again: it clears away what was left"


@contextmanager
def _noted_interruptions() -> "Iterator[SimpleQueue[BaseException | None]]":
    """Note an interruption, or a request to stop, unless whoever began this process has it ignored.

    A job on a cluster would outlive this process.

    An exception that a handler raises is lost where it strikes a callback of Beam's or gRPC's. A note is not; and
    whoever interrupts again is heard as always, so that nobody waits for a service that is silent.
    """
    notes: SimpleQueue[BaseException | None] = SimpleQueue()
    handlers = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}
    before = {one: handler for one, handler in handlers.items() if handler is not signal.SIG_IGN}

    def restore() -> None:
        for one, handler in before.items():
            signal.signal(one, handler)

    def note(*_: object) -> None:
        restore()
        notes.put(KeyboardInterrupt())

    for one in before:
        signal.signal(one, note)
    try:
        yield notes
    finally:
        restore()


@contextmanager
def _own_temporaries(pipeline: beam.Pipeline) -> Iterator[None]:
    """Give what hands a job over a temporary folder that goes with it: Beam makes some there, and leaves them."""
    if not isinstance(pipeline.runner, PortableRunner):
        yield
        return
    before = tempfile.tempdir
    with TemporaryDirectory(prefix="meterveil-job-", ignore_cleanup_errors=True) as folder:
        tempfile.tempdir = folder
        try:
            yield
        finally:
            tempfile.tempdir = before


@contextmanager
def _without_tracebacks() -> Iterator[None]:
    """Keep what a job service says of workers, with their stacks, out of the log; it helps at DEBUG only."""
    root = logging.getLogger()

    def is_wanted(record: logging.LogRecord) -> bool:
        return record.module != "portable_runner" or root.isEnabledFor(logging.DEBUG)

    root.addFilter(is_wanted)
    try:
        yield
    finally:
        root.removeFilter(is_wanted)


def explain_failure(text: str) -> MeterveilError:
    """Find in what a runner says of a failed job the words that are ours, or else the runner's own first ones."""
    if ours := _OURS.search(text):
        return MeterveilError(ours[1])
    found = _OF_RUNNER.search(text)
    words = found[0][:_MOST_WORDS] if found else "for a reason that its log says"
    return MeterveilError(
        f"the job failed: {words}", where="the runner", remedy="nothing was committed; mend that and run it again"
    )


def _ask_for_options(endpoint: str) -> set[str]:
    """Ask a job service for the names of its runner's options."""
    with grpc.insecure_channel(endpoint) as channel:
        try:
            grpc.channel_ready_future(channel).result(_ANSWER_S)
            request = beam_job_api_pb2.DescribePipelineOptionsRequest()
            answer = beam_job_api_pb2_grpc.JobServiceStub(channel).DescribePipelineOptions(request, timeout=_ANSWER_S)
        except (grpc.FutureTimeoutError, grpc.RpcError):
            raise _tell_silence(endpoint) from None
    return {option.name for option in answer.options}


def _tell_silence(endpoint: str) -> MeterveilError:
    return MeterveilError(
        f"no job service answers at {endpoint}", where="--job_endpoint", remedy="start it, or name another one"
    )
