#!/usr/bin/env bash
# What tpu.sh has every worker of a slice do, by ssh.
set -euo pipefail
cd "$(dirname "$0")/.."

# Takes minutes, so it is done anew only for other packages, as the mark tells. The code
# itself is used where it lies. The image's own Python may be older than 3.11: uv gets one.
install() {
    local packages uv=$HOME/.local/bin/uv
    packages=$(sha256sum requirements.lock pyproject.toml)
    if [ "$(cat .installed 2>/dev/null)" = "$packages" ]; then return; fi
    rm -f .installed
    python3 -m pip install --quiet --user uv
    "$uv" venv --quiet --clear --python 3.12 .venv
    "$uv" pip install --quiet --constraint requirements.lock --editable '.[tpu,gcs]'
    echo "$packages" >.installed
}

# The bucket as the folder that all workers share, which several processes need.
mount() {
    command -v gcsfuse >/dev/null || {
        echo "error: the workers have no gcsfuse: see the README of cloud/" >&2
        exit 1
    }
    mkdir -p bucket
    mountpoint --quiet bucket ||
        gcsfuse --implicit-dirs --rename-dir-limit=10000 "$1" bucket
}

running() { [ -f job.pid ] && kill -0 "$(cat job.pid)" 2>/dev/null; }

# The job outlives the connection; its exit status is kept when it has ended.
start() {
    if running; then
        echo "the job is running already" >&2
        return
    fi
    rm -f job.pid job.status
    # shellcheck disable=SC2016  # its own shell puts in the arguments
    nohup setsid bash -c '
        echo $$ >job.pid
        status=0
        .venv/bin/python -m ssl_vae.main --distributed=auto "$@" || status=$?
        echo "$status" >job.status' job "$@" >job.log 2>&1 </dev/null &
    until [ -f job.pid ] && { running || [ -f job.status ]; }; do sleep 0.1; done
}

follow() {
    if [ -f job.pid ]; then
        tail --lines=20 --follow --pid="$(cat job.pid)" job.log
    else
        echo "no job was started" >&2
    fi
}

case ${1:-} in
install | mount | start | follow) "$@" ;;
running) if running; then echo running; fi ;;
status) cat job.status 2>/dev/null || echo 1 ;;  # there is none if the machine fell
*) echo "error: ${1:-nothing}: not one of install, mount, start, running, follow, status" >&2; exit 2 ;;
esac
