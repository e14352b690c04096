#!/usr/bin/env bash
# The main job on a Cloud TPU slice, from its creation to its deletion: see README.md.
set -euo pipefail

usage() {
    cat <<'END'
cloud/tpu.sh COMMAND --project=ID --zone=ZONE --bucket=gs://NAME [--name=NAME]
             [--type=v5litepod-8] [--version=v2-alpha-tpuv5-lite] [--spot] [-- FLAGS]

  all      all of these in turn; where a slice is preempted, another one goes on
  create   ask for a slice and wait for it
  install  put this checkout on its workers, as it is now
  run      start the job with the FLAGS of ssl_vae.main, in <bucket>/<name>
  follow   print the job's log until it ends
  fetch    copy the run to checkpoints/<name>
  delete   delete the slice; what is in the bucket stays

PROJECT, ZONE and BUCKET in the environment stand for the flags.
END
}

fail() { echo "error: $1" >&2; exit 2; }
say() { echo "tpu.sh: $1" >&2; }

parse() {
    command=${1:-}
    project=${PROJECT:-} zone=${ZONE:-} bucket=${BUCKET:-}
    name=ssl-vae type=v5litepod-8 version=v2-alpha-tpuv5-lite spot=() flags=()
    case $command in
    all | create | install | run | follow | fetch | delete) shift ;;
    help | -h | --help) usage; exit 0 ;;
    *) fail "${command:-no command}: give one of all, create, install, run, follow, fetch, delete" ;;
    esac
    while [ $# -gt 0 ]; do
        case $1 in
        --project=*) project=${1#*=} ;;
        --zone=*) zone=${1#*=} ;;
        --bucket=*) bucket=${1#*=} ;;
        --name=*) name=${1#*=} ;;
        --type=*) type=${1#*=} ;;
        --version=*) version=${1#*=} ;;
        --spot) spot=(--spot) ;;
        --) shift; flags=("$@"); break ;;
        *) fail "$1: no such flag; those of ssl_vae.main go behind --" ;;
        esac
        shift
    done
}

check() {
    [ -n "$project" ] || fail "--project is missing: the ID of your Google Cloud project"
    [ -n "$zone" ] || fail "--zone is missing: one that has TPUs, such as us-west4-a"
    [ -n "$bucket" ] || fail "--bucket is missing: gs://NAME, where runs are kept"
    [[ $bucket == gs://?* ]] || fail "--bucket=$bucket: must begin with gs://"
    [[ $name =~ ^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$ ]] ||
        fail "--name=$name: must be lower-case letters, digits and -, at most 40"
    [[ $bucket =~ ^gs://[^/]+/?$ ]] || fail "--bucket=$bucket: a bucket, without a folder"
    [[ $type =~ -[0-9]+$ ]] || fail "--type=$type: must end in a number, as v5litepod-8"
    bucket=${bucket%/}
    local flag
    for flag in ${flags[@]+"${flags[@]}"}; do
        case $flag in
        --workdir | --workdir=* | --distributed | --distributed=*)
            fail "${flag%%=*}: given by this script; the workdir is $bucket/$name" ;;
        esac
    done
    command -v gcloud >/dev/null ||
        fail "gcloud is not installed: see https://cloud.google.com/sdk/docs/install"
}

tpus() {  # a group of commands, one of them, and its arguments
    local group=$1 verb=$2
    shift 2
    gcloud compute tpus "$group" "$verb" "$@" \
        --project="$project" --zone="$zone" --quiet
}

on() {  # a worker or all, a command of worker.sh, and its arguments
    local worker=$1 line
    shift
    printf -v line ' %q' "$@"
    tpus tpu-vm ssh "$name" --worker="$worker" --command="ssl_vae/cloud/worker.sh$line"
}

# Lists are asked, not descriptions: they tell a slice that is gone from a network that is.
slice_state() {
    tpus tpu-vm list --filter="name~/$name\$" --format='value(state)'
}
request_state() {
    tpus queued-resources list --filter="name~/$name\$" --format='value(state.state)'
}
answer() {  # of one of these, that may fail now and then
    local try
    for try in 1 2 3 4 5; do
        if "$@"; then return; fi
        if [ "$try" -lt 5 ]; then
            say "no answer about $name; once more"
            sleep "$poll"
        fi
    done
    say "no answer about $name: the same command goes on once gcloud has one"
    exit 1
}
gone() {  # after a while: a job may notice the end of its slice before the lists do
    local slice
    sleep "$poll"
    slice=$(slice_state) && [ "$slice" != READY ]
}

# A request waits in a queue for its slice. Once that is preempted it is of no more use.
create() {
    local slice request
    while :; do
        # The request first: one that is ACTIVE had its slice when that is asked for.
        request=$(answer request_state)
        slice=$(answer slice_state)
        if [ "$slice" = READY ]; then
            return
        fi
        case $request:$slice in
        :*)
            say "asking for a slice $name of type $type in $zone"
            tpus queued-resources create "$name" --node-id="$name" \
                --accelerator-type="$type" --runtime-version="$version" \
                ${spot[@]+"${spot[@]}"} ;;
        FAILED:*)
            say "there will be no slice $name: its request has failed"
            exit 1 ;;
        SUSPEND*:* | *:PREEMPTED | *:TERMINATED | ACTIVE:)
            delete
            continue ;;
        *) say "waiting for the slice $name: $request" ;;
        esac
        sleep "$poll"
    done
}

# Code is never exchanged under a job that runs: it reads some of it late.
install() {
    if [[ $(on all running 2>/dev/null) == *running* ]]; then
        say "the job on $name is running: its code stays as it is until it has ended"
        return
    fi
    say "installing on the workers of $name"
    local folder
    folder=$(mktemp -d)
    tar -C "$root" -czf "$folder/ssl_vae.tar.gz" "${NEEDED[@]}"
    tpus tpu-vm scp "$folder/ssl_vae.tar.gz" "$name:" --worker=all
    rm -r "$folder"
    tpus tpu-vm ssh "$name" --worker=all \
        --command="mkdir -p ssl_vae && cd ssl_vae && rm -rf ${NEEDED[*]} &&
            tar -xzf ../ssl_vae.tar.gz"
    on all install
}

run() {
    local workdir=$bucket/$name
    if [ "${type##*-}" -gt 8 ]; then  # several workers, which need a shared folder
        on all mount "${bucket#gs://}"
        workdir=bucket/$name
    fi
    say "starting the job on $name, in $bucket/$name"
    on all start --workdir="$workdir" ${flags[@]+"${flags[@]}"}
}

# Ends with the job's exit status, or with $GONE.
follow() {
    local status
    until on 0 follow && status=$(on 0 status); do
        if gone; then
            say "the slice $name is gone"
            exit "$GONE"
        fi
        say "no connection to $name; once more"
    done
    exit "$status"
}

fetch() {
    say "fetching $bucket/$name into checkpoints/$name"
    mkdir -p "$root/checkpoints/$name"
    gcloud storage rsync --recursive "$bucket/$name" "$root/checkpoints/$name" \
        --project="$project" --quiet
}

delete() {
    local request
    request=$(answer request_state)
    if [ -z "$request" ]; then
        say "there is no slice $name"
    else
        say "deleting the slice $name"
        tpus queued-resources delete "$name" --force
    fi
}

all() {
    trap 'say "the slice $name stays: the same command goes on, delete ends it"
        exit 130' INT TERM
    local status
    while :; do
        step create
        status=0
        step install && step run && step follow || status=$?
        case $status in 0 | 2) break ;; esac
        if ! gone; then break; fi
        say "the slice $name was preempted: the next one goes on"
    done
    if [ "$status" = 0 ]; then
        step fetch
    else
        say "the job has ended with status $status; the last lines of every worker:"
        on all follow || true
    fi
    step delete
    exit "$status"
}
step() { "$0" "$1" ${given[@]+"${given[@]}"}; }  # it stops where something fails

readonly GONE=75
readonly NEEDED=(ssl_vae configs cloud pyproject.toml requirements.lock README.md LICENSE)
root=$(cd "$(dirname "$0")/.." && pwd)
poll=${POLL:-30}  # seconds between two looks
parse "$@"
check
given=("${@:2}")
"$command"
