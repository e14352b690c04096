"""Following a run elsewhere: `--log=tensorboard,wandb` sends on what its logs get.

Everything is read from the metrics logs. A run that goes on after a stop has trimmed
them to where it goes on from, so each step is told once, and what was trained before
`--log` was given is told too.
"""

import difflib
import importlib.util
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ssl_vae.errors import InputError, in_a_line
from ssl_vae.plan import Plan
from ssl_vae.results import Results
from ssl_vae.sinks import OPEN, Scalars, Sink
from ssl_vae.stage import Stage

logger = logging.getLogger("ssl_vae")

# The packages of the extras of these names.
NEEDED = {"tensorboard": "tensorboardX", "wandb": "wandb"}


def check(names: Sequence[str]) -> None:
    """Refuses what `--log` cannot be, before anything else is done.

    Raises:
      InputError: naming the value, or the package that is missing and how to get it.
    """
    for name in names or [""]:
        if name not in NEEDED:
            close = difflib.get_close_matches(name, NEEDED, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise InputError(
                f"--log={','.join(names)}: must be {' or '.join(NEEDED)}, or both with"
                f" a comma{hint}"
            )
        found = importlib.util.find_spec(NEEDED[name])
        if found is None or found.origin is None:  # or a mere folder of that name
            raise InputError(
                f"--log={name}: needs the package {NEEDED[name]}:"
                f" pip install 'ssl_vae[{name}]'"
            )


class Follower:
    """Sends on what a run's logs get; to be used with `with`.

    Nothing is opened before there is something to send. What fails is left out from
    then on, with one line on the console: it never costs a run.
    """

    def __init__(self, names: Sequence[str], plan: Plan):
        self._names, self._plan = list(dict.fromkeys(names)), plan
        self._sinks: dict[str, Sink] = {}
        self._read: dict[Path, int] = {}  # how many bytes of each log

    def __call__(self, stage: Stage) -> None:
        """Sends what a training's log has got since the last call.

        The first call is to be made after the log was trimmed.
        """
        if not self._names:
            return
        models = _models(stage, self._plan)
        first = stage.metrics not in self._read
        records = list(self._new_records(stage.metrics))

        def send(sink: Sink) -> None:
            for model in models if first else []:
                sink.begin(model)
            for step, metrics in records:
                for i, model in enumerate(models):
                    sink.scalars(model, step, _of_run(metrics, i))
            sink.flush()

        self._tell(send)

    def finish(self, results: Results) -> None:
        """Sends the accuracies, and the logs of what earlier commands have trained."""
        for stage in self._plan.workdir.stages():
            if stage.metrics.exists() and stage.metrics not in self._read:
                self(stage)
        self._tell(lambda sink: sink.accuracies(results.results))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._names = [name for name in self._names if name in self._sinks]
        self._tell(lambda sink: sink.close(done=kind is None))
        if self._names:
            self._plan.workdir.push()

    def _new_records(self, log: Path) -> Iterator[tuple[int, dict[str, Any]]]:
        """Steps and metrics of the lines of a log that were not read before."""
        self._read.setdefault(log, 0)
        if not log.exists():
            return
        with log.open("rb") as file:
            file.seek(self._read[log])
            for line in file:
                # A line that is torn, or not of ours, is passed over.
                unlike = ValueError, KeyError, TypeError, AttributeError, RecursionError
                with suppress(*unlike):
                    metrics = json.loads(line)
                    yield metrics.pop("step"), metrics
            self._read[log] = file.tell()

    def _tell(self, say: Callable[[Sink], None]) -> None:
        for name in list(self._names):
            try:
                if name not in self._sinks:
                    self._sinks[name] = OPEN[name](self._plan)
                say(self._sinks[name])
            except Exception as error:  # of any kind: the run is worth more
                self._names.remove(name)
                logger.warning(
                    "--log=%s: ends here, the run goes on: %s: %s",
                    name,
                    type(error).__name__,
                    in_a_line(error),
                )


def _models(stage: Stage, plan: Plan) -> list[str]:
    """What the models of a training are called: by label split, or by seed."""
    if stage.num_labels is None:
        several = len(plan.seeds) > 1
        return [f"M1/seed-{seed}" for seed in plan.seeds] if several else ["M1"]
    seeds = stage.splits or ["all"]
    return [f"labels-{stage.num_labels}/split-{seed}" for seed in seeds]


def _of_run(record: Mapping[str, Any], run: int) -> Scalars:
    """What a line of the log says of one of the models trained side by side."""
    return {k: v[run] if isinstance(v, list) else v for k, v in record.items()}
