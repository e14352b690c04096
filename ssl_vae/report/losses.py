"""The metrics logs of a run's trainings, as charts."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ssl_vae.report import charts
from ssl_vae.report.charts import SMALL, Axis, Chart, Mark
from ssl_vae.stage import Stage
from ssl_vae.workdir import Workdir

POINTS = 160
NAMES = {
    "loss": "loss, nats",
    "log_likelihood": "log-likelihood, nats",
    "kl": "KL, nats",
    "gradients": "gradients, nats",
    "cross_entropy": "cross-entropy, nats",
    "entropy": "entropy of q(y|x), nats",
    "classes": "classes in use",
}


class Log(NamedTuple):
    """A training's log: what it is of, steps [n], and each metric, [n, runs]."""

    title: str
    steps: np.ndarray
    metrics: dict[str, np.ndarray]


def read_logs(run: Workdir) -> list[Log]:
    """The logs of a run's trainings, those of M1 first."""
    logs = (_read(stage.metrics, _title(stage, run)) for stage in run.stages())
    return [log for log in logs if log]


def _title(stage: Stage, run: Workdir) -> str:
    if stage.num_labels is None:
        alone = stage.path == run.path
        return "all images, without labels" if alone else "M1, the first model"
    return f"{charts.grouped(stage.num_labels)} labels, {stage.which}"


def _read(path: Path, title: str) -> Log | None:
    """A log, thinned to POINTS lines; lines that are torn or alien are left out."""
    if not path.exists():
        return None
    records = []
    for text in path.read_text(errors="replace").splitlines():
        try:
            record = json.loads(text)
            records.append({k: np.atleast_1d(np.float64(v)) for k, v in record.items()})
        except (ValueError, TypeError, AttributeError):
            continue
    alike = [r for r in records if _form(r) == _form(records[0])]
    if not alike or "step" not in alike[0]:
        return None
    rows = np.unique(np.linspace(0, len(alike) - 1, POINTS).round().astype(int))
    arrays = {k: np.stack([alike[i][k] for i in rows]) for k in alike[0]}
    return Log(title, arrays.pop("step")[:, 0], arrays)


def _form(record: dict[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    return {name: value.shape for name, value in record.items()}


def loss_charts(log: Log) -> list[Chart]:
    """A small chart of each metric over the steps, the loss first, a line a run."""
    names = sorted(log.metrics, key=lambda name: [*NAMES, name].index(name))
    return [_chart(log, name) for name in names]


def _chart(log: Log, name: str) -> Chart:
    label, values = NAMES.get(name, name.replace("_", " ")), log.metrics[name]
    # The first steps would leave no room for all that comes after them.
    late = values[log.steps > 0.03 * log.steps[-1]]
    finite = late[np.isfinite(late)]
    y = charts.axis(
        label, finite if len(finite) else [0], vertical=True, size=SMALL, num_ticks=4
    )
    x = _steps_axis(float(log.steps[-1]))
    lines = []
    for run in values.T:
        inside = np.isfinite(run) & (run >= y.low) & (run <= y.high)
        lines.append(Mark("thin", charts.line(x(log.steps[inside]), y(run[inside]))))
    return Chart(f"{log.title}: {label} over training steps", x, y, lines, *SMALL)


def _steps_axis(last: float) -> Axis:
    low, high = charts.LEFT, SMALL[0] - charts.RIGHT
    names = ["0", charts.grouped(last)]
    return Axis("step", 0.0, max(last, 1.0), low, high, False, [0.0, last], names)
