"""A worker of a cluster: what a runner starts on each machine, as a process, to run the steps of the graph.

Beam's ``PROCESS`` environment starts the command ``meterveil-worker`` with the worker's name and an address that says
where its job is. Nothing else is told: no key, no lake, no policy.
"""

import argparse
import os
import threading
import time
from collections.abc import Mapping, Sequence

from pipeline.imports import quick_imports

_POLL_S = 1.0
#: How long a runner may take to answer where its job is.
_PATIENCE_S = 60.0


def main(argv: Sequence[str] | None = None) -> None:
    """Work until the runner has no more work, or is gone."""
    parser = argparse.ArgumentParser(
        prog="meterveil-worker", description="A worker of a cluster; its runner starts it."
    )
    parser.add_argument("--id", required=True, help="name of the worker")
    parser.add_argument("--provision_endpoint", required=True, help="host:port of the service that knows the job")
    arguments, _ = parser.parse_known_args(argv)  # further ones are for other kinds of workers
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    with quick_imports():
        from apache_beam.runners.worker import sdk_worker_main

        import pipeline.ingest  # noqa: F401 - before the first elements wait for it

    os.environ.update(_ask_for_job(arguments.id, arguments.provision_endpoint))
    sdk_worker_main.main([])


def _ask_for_job(worker: str, endpoint: str) -> Mapping[str, str]:
    """Ask a runner's provisioning service for what Beam's harness reads from its environment."""
    import grpc
    from apache_beam.portability.api import beam_provision_api_pb2, beam_provision_api_pb2_grpc
    from apache_beam.runners.worker.worker_id_interceptor import WorkerIdInterceptor
    from google.protobuf import json_format, text_format

    with grpc.insecure_channel(endpoint) as channel:
        service = beam_provision_api_pb2_grpc.ProvisionServiceStub(
            grpc.intercept_channel(channel, WorkerIdInterceptor(worker))
        )
        request = beam_provision_api_pb2.GetProvisionInfoRequest()
        info = service.GetProvisionInfo(request, timeout=_PATIENCE_S, wait_for_ready=True).info
    return {
        "WORKER_ID": worker,
        "PIPELINE_OPTIONS": json_format.MessageToJson(info.pipeline_options),
        "CONTROL_API_SERVICE_DESCRIPTOR": text_format.MessageToString(info.control_endpoint),
        "LOGGING_API_SERVICE_DESCRIPTOR": text_format.MessageToString(info.logging_endpoint),
        "RUNNER_CAPABILITIES": " ".join(info.runner_capabilities),
    }


def _end_with(parent: int) -> None:
    """End this process when its parent is gone: a worker that nobody listens to would stay for ever."""
    while os.getppid() == parent:
        time.sleep(_POLL_S)
    os._exit(1)


if __name__ == "__main__":
    main()
