"""The folder of one training within that of its run: what it is of, what it holds."""

import json
import re
from pathlib import Path
from typing import Any, Self

from ssl_vae.files import replacing


class Stage:
    """Folder of one training: its states, its final weights and its metrics log.

    Attributes:
      num_labels: How many labels it learns from; None of M1, which learns from none.
      splits: The label splits that are trained side by side; None of M1, and where all
        labels that there are teach one model.
    """

    def __init__(
        self, path: Path, num_labels: int | None = None, splits: range | None = None
    ):
        self.path, self.num_labels, self.splits = path, num_labels, splits
        self.metrics = path / "metrics.jsonl"
        self.steps = path / "steps"  # Orbax, one subfolder a saved step
        self.weights = path / "vae_weights"

    @classmethod
    def of_labels(cls, run: Path, num_labels: int, splits: range | None) -> Self:
        """A training with labels, by the folder of its run."""
        which = f"{splits[0]}-{splits[-1]}" if splits else "all"
        path = run / f"labels-{num_labels}" / f"splits-{which}"
        return cls(path, num_labels, splits)

    @property
    def which(self) -> str:
        """The labels that it learns from, such as "splits 0 to 9"."""
        if not self.splits:
            return "all of them"
        first, last = self.splits[0], self.splits[-1]
        return f"splits {first} to {last}" if last > first else f"split {first}"

    def log(self, record: dict[str, Any]) -> None:
        """Appends one line to the metrics log."""
        with self.metrics.open("a") as file:
            file.write(json.dumps(record, allow_nan=False) + "\n")

    def trim_log(self, step: int) -> None:
        """Drops lines of the metrics log beyond `step`, and a torn last line."""
        if not self.metrics.exists():
            return
        kept = []
        for line in self.metrics.read_bytes().splitlines(keepends=True):
            try:
                if json.loads(line)["step"] > step or not line.endswith(b"\n"):
                    break
            except (ValueError, KeyError, TypeError, RecursionError):
                break
            kept.append(line)
        with replacing(self.metrics) as partial:
            partial.write_bytes(b"".join(kept))


def stages_of_labels(run: Path) -> list[Stage]:
    """The trainings with labels in a run's folder.

    Those of label splits come by their number of labels and their splits, then those
    of all labels.
    """
    pattern = re.compile(r"labels-(\d+)/splits-(?:all|(\d+)-(\d+))", re.A)
    found = []
    for path in run.glob("labels-*/splits-*"):
        if name := pattern.fullmatch(path.relative_to(run).as_posix()):
            splits = range(int(name[2]), int(name[3]) + 1) if name[2] else None
            if splits is None or splits:
                found.append(Stage(path, int(name[1]), splits))
    return sorted(found, key=_place)


def _place(stage: Stage) -> tuple[bool, int | None, int, int]:
    splits = stage.splits or range(0)
    return not stage.splits, stage.num_labels, splits.start, splits.stop
