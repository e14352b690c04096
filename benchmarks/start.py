"""How long a start takes: the same command with nothing compiled yet, and again.

    python benchmarks/start.py

Prints the seconds from the start of the process of the main job to the first line of
its log, which comes after 100 steps. The data is decoded before, and Python's bytecode
is kept, as pip leaves it, also where PYTHONDONTWRITEBYTECODE would have it made anew.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ssl_vae import datasets
from ssl_vae.errors import InputError


def seconds_to_first_line(command: list[str], workdir: Path, compiled: Path) -> float:
    """Of a run in a new folder, which is ended then."""
    env = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(compiled)}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    log = workdir / "metrics.jsonl"
    start = time.perf_counter()
    with subprocess.Popen(
        [*command, f"--workdir={workdir}"], env=env, stderr=subprocess.DEVNULL
    ) as process:
        while not (log.exists() and log.stat().st_size):
            if process.poll() is not None:
                sys.exit(f"the run ended with {process.returncode}")
            time.sleep(0.01)
        seconds = time.perf_counter() - start
        process.kill()
    return seconds


def main() -> None:
    """Prints the first start, and each of the others."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir")
    parser.add_argument("--num_starts", type=int, default=6)
    flags = parser.parse_args()
    try:
        datasets.load("fashion_mnist", flags.data_dir)
    except InputError as error:
        parser.error(str(error))
    command = [sys.executable, "-m", "ssl_vae.main"]
    if flags.data_dir:
        command.append(f"--data_dir={flags.data_dir}")
    with tempfile.TemporaryDirectory() as folder:
        for i in range(flags.num_starts):
            workdir, compiled = Path(folder) / str(i), Path(folder) / "compiled"
            seconds = seconds_to_first_line(command, workdir, compiled)
            print(f"{'again' if i else 'first'}  {seconds:5.2f} s", flush=True)


if __name__ == "__main__":
    main()
