"""Where a run can be followed: TensorBoard and Weights & Biases."""

import logging
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from ssl_vae.errors import in_a_line
from ssl_vae.plan import Plan
from ssl_vae.results import Row
from ssl_vae.workdir import read_json, write_json

# Neither library is needed unless it is asked for: imported where it is used.

logger = logging.getLogger("ssl_vae")

WANDB_SECONDS = 15.0  # to wait for its server, at either end of a run
Scalars = Mapping[str, float]


class Sink(Protocol):
    """Where scalars go."""

    def begin(self, model: str) -> None:
        """Told first of a model that is trained; all its steps follow."""

    def scalars(self, model: str, step: int, values: Scalars) -> None:
        """Takes what the log says of a model at an optimizer step."""

    def flush(self) -> None:
        """Told when there is nothing more to be had for the moment."""

    def accuracies(self, rows: Sequence[Row]) -> None:
        """Takes the rows of a finished run's results."""

    def close(self, *, done: bool) -> None:
        """Told at the end; `done` is False for a run that was stopped or has failed."""


class TensorBoard:
    """Event files in the folder `tensorboard` of a run, a subfolder a trained model."""

    def __init__(self, plan: Plan):
        import tensorboardX

        self._writer = tensorboardX.SummaryWriter
        self._folder = plan.workdir.path / "tensorboard"
        self._writers: dict[str, Any] = {}
        where = plan.workdir.address(self._folder)
        logger.info("to follow it: tensorboard --logdir=%s", where)

    def begin(self, model: str) -> None:
        """Has viewers forget what earlier commands told: all of it follows anew."""
        self._writers[model] = self._writer(str(self._folder / model), purge_step=0)

    def scalars(self, model: str, step: int, values: Scalars) -> None:
        """Writes a point of each curve."""
        for name, value in values.items():
            self._writers[model].add_scalar(name, value, step)

    def flush(self) -> None:
        """Writes to disk, where a viewer finds it."""
        for writer in self._writers.values():
            writer.flush()

    def accuracies(self, rows: Sequence[Row]) -> None:
        """Writes curves over the number of labels, in place of the step."""
        self.begin("results")
        for row in rows:
            self.scalars("results", row.labels, _accuracy(row))

    def close(self, *, done: bool) -> None:
        """Closes the files."""
        del done
        for writer in self._writers.values():
            writer.close()


class WandB:
    """One run of Weights & Biases for a run's folder; every command goes on with it.

    Steps that an earlier command has told are not told again: training is repeated to
    the bit. The file `wandb/ssl_vae.json` remembers which they are.
    """

    def __init__(self, plan: Plan):
        self._memory = plan.workdir.path / "wandb" / "ssl_vae.json"
        known = read_json(self._memory) if self._memory.exists() else {}
        self._id: str = known.get("id") or secrets.token_hex(4)
        self._told: dict[str, int] = known.get("told") or {}
        self._run = _wandb_run(plan, self._id)

    def begin(self, model: str) -> None:
        """Has the model's curves drawn over its own steps."""
        self._run.define_metric(f"{model}/step", hidden=True)
        self._run.define_metric(f"{model}/*", step_metric=f"{model}/step")

    def scalars(self, model: str, step: int, values: Scalars) -> None:
        """Logs a point of each curve."""
        if step > self._told.get(model, 0):
            self._told[model] = step
            point = {"step": step, **values}
            self._run.log({f"{model}/{name}": point[name] for name in point})

    def flush(self) -> None:
        """Remembers what was told."""
        if not self._run.disabled:
            self._memory.parent.mkdir(parents=True, exist_ok=True)
            write_json(self._memory, {"id": self._id, "told": self._told})

    def accuracies(self, rows: Sequence[Row]) -> None:
        """Sets the run's summary, by which runs are compared."""
        for row in rows:
            for name, value in _accuracy(row).items():
                self._run.summary[f"{name}/{row.labels}-labels"] = value

    def close(self, *, done: bool) -> None:
        """Ends this command's part; what could not be sent stays on disk."""
        self._run.finish(exit_code=0 if done else 1)


def _wandb_run(plan: Plan, run_id: str) -> Any:
    """Online if that can be; it never asks for anything nor waits for long."""
    import wandb

    folder = plan.workdir.path
    folder.mkdir(parents=True, exist_ok=True)
    about = {
        "project": os.environ.get("WANDB_PROJECT", "ssl_vae"),
        "name": folder.name,
        "id": run_id,
        "resume": "allow",
        "dir": str(folder),
        "config": plan.recipe.to_dict() | {"data": plan.data.identity},
        "allow_val_change": True,
        "settings": wandb.Settings(
            console="off",
            silent=True,
            init_timeout=WANDB_SECONDS,
            finish_timeout=WANDB_SECONDS,
        ),
    }
    os.environ.setdefault("WANDB_SILENT", "true")  # what it says at login
    mode = os.environ.get("WANDB_MODE", "online")
    if mode == "online":
        try:
            if not wandb.login(prompt=False):
                raise wandb.Error("there is no API key (wandb login)")
            run = wandb.init(**about)
            logger.info("wandb: %s", run.url)
            return run
        except wandb.Error as error:
            mode = "offline"
            logger.warning("wandb: offline, for %s", in_a_line(error))
    if mode == "offline":
        logger.info(
            "wandb: to send it later: wandb sync %s/wandb/offline-run-*", folder
        )
    return wandb.init(mode=mode, **about)


def _accuracy(row: Row) -> Scalars:
    """Under the names that results.json has for them."""
    return {
        "test_accuracy_mean": row.test_accuracy_mean,
        "test_accuracy_std": row.test_accuracy_std,
    }


OPEN: dict[str, Callable[[Plan], Sink]] = {"tensorboard": TensorBoard, "wandb": WandB}
