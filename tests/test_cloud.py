"""The scripts of cloud/ against a stand-in for `gcloud` and for what is on a worker."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CLOUD = Path(__file__).parent.parent / "cloud"
WHERE = ("--project=p", "--zone=z", "--bucket=gs://b", "--name=one")

# Keeps the state of the cloud in files of $CLOUD, one a fact, and runs the commands of
# `ssh` in the folder of each of two workers.
GCLOUD = """
import json, os, pathlib, shutil, subprocess, sys

cloud, args = pathlib.Path(os.environ["CLOUD"]), sys.argv[1:]
with (cloud / "calls").open("a") as calls:
    calls.write(json.dumps(args) + "\\n")
flag = lambda name: next(a.partition("=")[2] for a in args if a.startswith(name + "="))
slice, request = cloud / "slice", cloud / "request"
workers = [cloud / "worker-0", cloud / "worker-1"]
match args[:2] if args[0] == "storage" else args[2:4]:
    case [group, "list"] if (fails := cloud / f"{group}_fails").exists():
        left = int(fails.read_text()) - 1
        fails.write_text(str(left)) if left else fails.unlink()
        sys.exit("no answer")
    case ["tpu-vm", "list"]:
        print(slice.read_text() if slice.exists() else "", end="")
    case ["queued-resources", "list"]:
        print(request.read_text() if request.exists() else "", end="")
    case ["queued-resources", "create"]:
        if (cloud / "no_capacity").exists():
            request.write_text("FAILED")
        else:
            request.write_text("ACTIVE")
            slice.write_text("READY")
        [worker.mkdir() for worker in workers]
    case ["queued-resources", "delete"]:
        for path in (slice, request):
            path.unlink(missing_ok=True)
        [shutil.rmtree(worker) for worker in workers]
    case ["tpu-vm", "scp"]:
        [shutil.copy(args[4], worker) for worker in workers]
    case ["tpu-vm", "ssh"]:
        chosen = workers if flag("--worker") == "all" else workers[:1]
        if not slice.exists() or slice.read_text() != "READY":
            sys.exit("cannot connect")
        if (drops := cloud / "drops").exists() and "follow" in flag("--command"):
            drops.unlink()
            sys.exit("connection lost")
        if "follow" in flag("--command"):
            (cloud / "followed").touch()
        command = ["bash", "-c", flag("--command")]
        found = [
            subprocess.run(command, cwd=w, env=os.environ | {"HOME": str(w)}).returncode
            for w in chosen
        ]
        sys.exit(max(found))
    case ["storage", "rsync"]:
        pathlib.Path(args[4], "results.json").write_text("{}")
"""
# `python3 -m pip install uv`, then `uv venv`, then the job itself.
PYTHON3 = """#!/bin/sh
mkdir -p "$HOME/.local/bin" && cp "$CLOUD/uv" "$HOME/.local/bin/uv"
"""
UV = """#!/bin/sh
[ "$1" = venv ] || exec echo "$PWD" >>"$CLOUD/packages"
mkdir -p .venv/bin && cp "$CLOUD/job" .venv/bin/python
"""
GCSFUSE = """#!/bin/sh
printf '%s %s %s' "$1" "$2" "$3" >"$4/mounted"
"""
# Ends as the first line of $CLOUD/ends says, which it takes away: worker 0 for all.
JOB = """#!/bin/bash
printf '%s\\n' "$@"
case $PWD in */worker-0/*) ;; *) exit 0 ;; esac
end=$(head -n 1 "$CLOUD/ends")
sed -i 1d "$CLOUD/ends"
case $end in
preempted) printf PREEMPTED >"$CLOUD/slice"; exit 143 ;;
followed) until [ -f "$CLOUD/followed" ]; do sleep 0.1; done; exit 0 ;;
esac
exit "$end"
"""


class Cloud:
    """A checkout, a stand-in for the cloud, and what was asked of it."""

    def __init__(self, folder: Path):
        self.folder, self.checkout = folder / "cloud", folder / "checkout"
        self.bin = folder / "bin"
        shutil.copytree(CLOUD, self.checkout / "cloud")
        for name in ("ssl_vae", "configs"):
            (self.checkout / name).mkdir()
        for name in ("pyproject.toml", "requirements.lock", "README.md", "LICENSE"):
            (self.checkout / name).touch()
        for path in (self.folder, self.bin):
            path.mkdir()
        self._program(self.bin / "gcloud", f"#!{sys.executable} -IS\n{GCLOUD}")
        self._program(self.bin / "python3", PYTHON3)
        self._program(self.bin / "gcsfuse", GCSFUSE)
        self._program(self.folder / "uv", UV)
        self._program(self.folder / "job", JOB)

    def _program(self, path: Path, text: str) -> None:
        path.write_text(text)
        path.chmod(0o755)

    def run(self, *args: str, **environ: str) -> subprocess.CompletedProcess:
        script = self.checkout / "cloud" / "tpu.sh"
        base = {"PATH": f"{self.bin}:{os.environ['PATH']}", "POLL": "0.1"}
        return subprocess.run(
            ["bash", script, *args],
            env=base | {"CLOUD": str(self.folder), "HOME": str(self.folder)} | environ,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def ends(self, *ends: object) -> None:
        """How the jobs to come will end."""
        (self.folder / "ends").write_text("".join(f"{end}\n" for end in ends))

    @property
    def calls(self) -> list[list[str]]:
        """All calls of gcloud but those that only look."""
        lines = (self.folder / "calls").read_text().splitlines()
        return [call for call in map(json.loads, lines) if "list" not in call]

    @property
    def steps(self) -> list[str]:
        """The calls in short."""
        return [
            next(
                (
                    a.removeprefix("--command=").split()[:2][-1]
                    for a in call
                    if a.startswith("--command=ssl_vae")
                ),
                " ".join(call[:2] if call[0] == "storage" else call[2:4]),
            )
            for call in self.calls
        ]


@pytest.fixture
def cloud(tmp_path):
    return Cloud(tmp_path)


JOB_ON_A_SLICE = [
    "queued-resources create",
    "running",
    "tpu-vm scp",
    "tpu-vm ssh",  # unpacks
    "install",
    "start",
]
DELETE = "queued-resources delete"


def test_a_preempted_slice_is_made_again_and_the_job_goes_on(cloud):
    cloud.ends("preempted", 0)
    done = cloud.run("all", *WHERE, "--spot", "--", "--labels=100,600")
    assert done.returncode == 0, done.stderr
    assert "was preempted: the next one goes on" in done.stderr
    # How often it looks depends on when the job ends.
    steps = [step for step in cloud.steps if step not in ("follow", "status")]
    once = [*JOB_ON_A_SLICE, DELETE]
    assert steps == [*once, *JOB_ON_A_SLICE, "storage rsync", DELETE]
    first, second = (call for call in cloud.calls if any(" start" in a for a in call))
    assert first == second and "--worker=all" in first
    assert (cloud.checkout / "checkpoints" / "one" / "results.json").exists()
    assert not (cloud.folder / "slice").exists()


def test_the_job_is_given_its_flags_as_they_are_and_its_log_is_printed(cloud):
    cloud.ends(0)
    for step in ("create", "install"):
        assert cloud.run(step, *WHERE).returncode == 0
    assert cloud.run("run", *WHERE, "--", "--config=a b;.py").returncode == 0
    followed = cloud.run("follow", *WHERE)
    assert followed.returncode == 0
    assert followed.stdout.splitlines() == [
        "-m",
        "ssl_vae.main",
        "--distributed=auto",
        "--workdir=gs://b/one",
        "--config=a b;.py",
    ]


def test_several_workers_share_a_mounted_bucket(cloud):
    cloud.ends(0)
    for step in ("create", "install"):
        assert cloud.run(step, *WHERE).returncode == 0
    assert cloud.run("run", *WHERE, "--type=v5litepod-16").returncode == 0
    assert cloud.steps[-2:] == ["mount", "start"]
    assert "--workdir=bucket/one" in cloud.run("follow", *WHERE).stdout.splitlines()
    for worker in ("worker-0", "worker-1"):
        mounted = cloud.folder / worker / "ssl_vae" / "bucket" / "mounted"
        assert mounted.read_text() == "--implicit-dirs --rename-dir-limit=10000 b"


def test_the_slice_is_asked_for_as_the_flags_say(cloud):
    flags = ("--type=v5litepod-16", "--version=v", "--spot")
    assert cloud.run("create", *WHERE, *flags).returncode == 0
    (call,) = cloud.calls
    assert call == [
        *("compute", "tpus", "queued-resources", "create", "one", "--node-id=one"),
        *("--accelerator-type=v5litepod-16", "--runtime-version=v", "--spot"),
        *("--project=p", "--zone=z", "--quiet"),
    ]


@pytest.mark.parametrize("status", [1, 2, 143])
def test_a_job_that_fails_deletes_its_slice_and_passes_its_status_on(cloud, status):
    cloud.ends(status)
    done = cloud.run("all", *WHERE)
    assert done.returncode == status
    assert f"the job has ended with status {status}" in done.stderr
    assert cloud.steps.count("start") == 1
    assert cloud.steps[-1] == DELETE
    assert "storage rsync" not in cloud.steps


def test_a_lost_connection_is_no_preemption(cloud):
    cloud.ends(0)
    (cloud.folder / "drops").touch()
    done = cloud.run("all", *WHERE)
    assert done.returncode == 0
    assert "no connection to one; once more" in done.stderr
    assert cloud.steps.count("queued-resources create") == 1


@pytest.mark.parametrize("group", ["tpu-vm", "queued-resources"])
@pytest.mark.parametrize("step", ["create", "delete"])
def test_a_slice_outlives_a_question_without_an_answer(cloud, step, group):
    assert cloud.run("create", *WHERE).returncode == 0
    (cloud.folder / f"{group}_fails").write_text("2")
    done = cloud.run(step, *WHERE)
    assert done.returncode == 0
    asked = step == "create" or group == "queued-resources"
    assert done.stderr.count("no answer about one; once more") == 2 * asked
    deleted = [DELETE] if step == "delete" else []
    assert cloud.steps == ["queued-resources create", *deleted]


def test_without_any_answer_it_ends_and_deletes_nothing(cloud):
    assert cloud.run("create", *WHERE).returncode == 0
    (cloud.folder / "tpu-vm_fails").write_text("9")
    done = cloud.run("create", *WHERE)
    assert done.returncode == 1
    assert "no answer about one: the same command" in done.stderr
    assert cloud.steps == ["queued-resources create"]


def test_a_request_that_fails_ends_the_script(cloud):
    (cloud.folder / "no_capacity").touch()
    done = cloud.run("all", *WHERE)
    assert done.returncode == 1
    assert "its request has failed" in done.stderr
    assert cloud.steps == ["queued-resources create"]


def test_a_slice_that_is_there_is_used_and_a_job_on_it_followed(cloud):
    cloud.ends("followed")
    for step in ("create", "install", "run"):
        assert cloud.run(step, *WHERE).returncode == 0
    done = cloud.run("all", *WHERE)
    assert done.returncode == 0
    assert done.stderr.count("the job is running already") == 1
    assert cloud.steps.count("queued-resources create") == 1
    assert cloud.steps.count("tpu-vm scp") == 1


def written(folder: Path) -> dict[str, str]:
    """The code of a checkout or a worker, by file."""
    return {path.name: path.read_text() for path in (folder / "ssl_vae").iterdir()}


def test_another_install_brings_the_checkout_as_it_is_now(cloud):
    package, lock = cloud.checkout / "ssl_vae", cloud.checkout / "requirements.lock"
    workers = [cloud.folder / name / "ssl_vae" for name in ("worker-0", "worker-1")]
    (package / "old.py").touch()
    assert cloud.run("create", *WHERE).returncode == 0
    assert cloud.run("install", *WHERE).returncode == 0
    (package / "old.py").rename(package / "new.py").write_text("changed")
    assert cloud.run("install", *WHERE).returncode == 0
    assert [written(worker) for worker in workers] == [{"new.py": "changed"}] * 2
    packages = cloud.folder / "packages"
    assert packages.read_text().splitlines() == [str(worker) for worker in workers]
    lock.write_text("jax==1")
    assert cloud.run("install", *WHERE).returncode == 0
    assert len(packages.read_text().splitlines()) == 4


def test_packages_whose_install_was_cut_off_are_installed_again(cloud):
    lock, uv = cloud.checkout / "requirements.lock", (cloud.folder / "uv").read_text()
    assert cloud.run("create", *WHERE).returncode == 0
    assert cloud.run("install", *WHERE).returncode == 0
    lock.write_text("jax==1")
    (cloud.folder / "uv").write_text("#!/bin/sh\nexit 1\n")
    assert cloud.run("install", *WHERE).returncode == 1
    lock.write_text("")
    (cloud.folder / "uv").write_text(uv)
    assert cloud.run("install", *WHERE).returncode == 0
    assert len((cloud.folder / "packages").read_text().splitlines()) == 4


def test_a_job_that_runs_keeps_its_code_and_install_says_so(cloud):
    cloud.ends("followed", 0)
    for step in ("create", "install", "run"):
        assert cloud.run(step, *WHERE).returncode == 0
    (cloud.checkout / "ssl_vae" / "new.py").touch()
    done = cloud.run("install", *WHERE)
    assert done.returncode == 0
    told = "the job on one is running: its code stays as it is until it has ended"
    assert done.stderr == f"tpu.sh: {told}\n"
    assert not written(cloud.folder / "worker-0" / "ssl_vae")
    assert cloud.run("follow", *WHERE).returncode == 0
    assert cloud.run("install", *WHERE).returncode == 0
    assert written(cloud.folder / "worker-0" / "ssl_vae") == {"new.py": ""}


def test_deleting_what_is_not_there_is_no_error(cloud):
    done = cloud.run("delete", *WHERE)
    assert done.returncode == 0
    assert done.stderr == "tpu.sh: there is no slice one\n"


@pytest.mark.parametrize(
    "args, told",
    [
        ([], "no command: give one of all, create"),
        (["craete", *WHERE], "craete: give one of all, create"),
        (["all", *WHERE[1:]], "--project is missing"),
        (["all", WHERE[0], *WHERE[2:]], "--zone is missing"),
        (["all", *WHERE[:2]], "--bucket is missing"),
        (["all", *WHERE[:2], "--bucket=b"], "--bucket=b: must begin with gs://"),
        (["all", *WHERE[:2], "--bucket=gs://b/x"], "--bucket=gs://b/x: a bucket"),
        (["all", *WHERE, "--type=v5"], "--type=v5: must end in a number"),
        (["all", *WHERE[:3], "--name=A_b"], "--name=A_b: must be"),
        (["all", *WHERE, "--labels=100"], "--labels=100: no such flag"),
        (["all", *WHERE, "--", "--workdir=x"], "--workdir: given by this script"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_asked_for(cloud, args, told):
    done = cloud.run(*args)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {told}")
    assert done.stderr.count("\n") == 1
    assert not (cloud.folder / "calls").exists()


def test_without_gcloud_it_says_where_to_get_it(cloud, tmp_path):
    alone = tmp_path / "alone"
    alone.mkdir()
    for name in ("bash", "dirname"):
        (alone / name).symlink_to(str(shutil.which(name)))
    done = cloud.run("all", *WHERE, PATH=str(alone))
    assert done.returncode == 2
    assert done.stderr.startswith("error: gcloud is not installed")


def test_project_zone_and_bucket_may_be_in_the_environment(cloud):
    done = cloud.run("delete", PROJECT="p", ZONE="z", BUCKET="gs://b")
    assert done.returncode == 0


def test_shellcheck_finds_nothing_in_any_script():
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    shellcheck = shutil.which("shellcheck", path=path)
    if not shellcheck:
        pytest.skip("shellcheck is not there")
    root = CLOUD.parent
    scripts = [*root.glob("cloud/*.sh"), *root.glob("scripts/*.sh"), root / ".ci/run"]
    assert len(scripts) == 4
    done = subprocess.run([shellcheck, *scripts], capture_output=True, text=True)
    assert not done.stdout + done.stderr
