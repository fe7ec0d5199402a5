#!/bin/sh
# Builds the flex template, or submits a run of it: submit.sh --help
set -eu

usage() {
    cat <<'END'
usage: submit.sh [--print] build
       submit.sh [--print] run NAME=VALUE ...

build  keeps the template's specification at TEMPLATE, of IMAGE and metadata.json
run    submits a job; NAME=VALUE are parameters of metadata.json, such as lake=gs://.../lake

--print  says the command, a line for each argument, and runs nothing

From the environment; no value is a secret:
  PROJECT, REGION   where the job runs
  TEMPLATE          gs://.../ingest.json
  IMAGE             the image of deploy/dataflow/Dockerfile, with its version
for run also:
  WORKER_ACCOUNT    the service account of launcher and workers
  SUBNETWORK        regions/.../subnetworks/...
  TEMP, STAGING     gs://...: Dataflow's own files
  KMS_KEY           projects/.../cryptoKeys/...: encrypts what the job keeps
  MACHINES          at most so many workers (4)
END
}

fail() {
    printf 'submit.sh: %s; see submit.sh --help\n' "$1" >&2
    exit 2
}

start() {
    if [ "$prints" ]; then
        printf '%s\n' "$@"
    else
        exec "$@"
    fi
}

need() {
    for name in "$@"; do
        eval "value=\${$name:-}"
        [ -n "$value" ] || fail "$name is not set"
    done
}

prints=
while [ $# -gt 0 ]; do
    case $1 in
    --help) usage; exit 0 ;;
    --print) prints=yes; shift ;;
    *) break ;;
    esac
done
[ $# -gt 0 ] || fail "build or run?"
action=$1
shift
need PROJECT REGION TEMPLATE IMAGE

case $action in
build)
    [ $# -eq 0 ] || fail "build takes no parameters"
    start gcloud dataflow flex-template build "$TEMPLATE" "--project=$PROJECT" "--image=$IMAGE" \
        --sdk-language=PYTHON "--metadata-file=$(dirname "$0")/metadata.json"
    ;;
run)
    need WORKER_ACCOUNT SUBNETWORK TEMP STAGING KMS_KEY
    count=$#
    while [ "$count" -gt 0 ]; do
        case $1 in
        *\|*) fail "a parameter has a |" ;;
        [a-z]*=*) ;;
        *) fail "parameters are NAME=VALUE" ;;
        esac
        # Commas in a value would begin another parameter: another separator is named first.
        set -- "$@" "--parameters=^|^$1"
        shift
        count=$((count - 1))
    done
    start gcloud dataflow flex-template run "meterveil-$(date -u +%Y%m%d-%H%M%S)" \
        "--template-file-gcs-location=$TEMPLATE" "--project=$PROJECT" "--region=$REGION" \
        "--service-account-email=$WORKER_ACCOUNT" "--subnetwork=$SUBNETWORK" --disable-public-ips \
        "--temp-location=$TEMP" "--staging-location=$STAGING" "--dataflow-kms-key=$KMS_KEY" \
        --launcher-machine-type=n2d-standard-2 --worker-machine-type=n2d-standard-4 "--max-workers=${MACHINES:-4}" \
        "--parameters=sdk_container_image=$IMAGE" --parameters=number_of_worker_harness_threads=2 "$@"
    ;;
*) fail "build or run?" ;;
esac
