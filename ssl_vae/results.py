"""What a run found: results.json in memory, on disk and as a table."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar, get_args, get_origin, get_type_hints

import numpy as np

from ssl_vae.datasets.known import CANONICAL_SHA256
from ssl_vae.errors import InputError, RunError
from ssl_vae.workdir import FORMAT_VERSION, Workdir, read_json, write_json

# The reported accuracy of the system that the default recipe rebuilds: one run, one
# split. github.com/rachnaumesh/Semi-supervised-learning-VAE
REPORTED = {100: 0.6482, 600: 0.7632, 1000: 0.7647, 3000: 0.7990}


# Of `Results.dataset`, as far as it is read again.
_OF_DATASET = {
    "name": str,
    "sha256": str,
    "class_names": list[str],
    "image_shape": list[int],
}

T = TypeVar("T")


@dataclass(frozen=True)
class Row:
    """Test accuracy of one classifier at one number of labels, over label splits.

    Protocols: "inductive", no training step saw the test images; "cross_validation",
    there are none, and each fold's share of the labeled images takes their place, which
    the model was trained on without their labels.
    """

    labels: int
    classifier: str
    protocol: str
    split_seeds: list[int]
    test_accuracy: list[float]  # in [0, 1], one a split seed
    test_accuracy_mean: float
    test_accuracy_std: float  # sample deviation (n - 1), 0 for one split
    # Where every split has a model of its own: its figures, one dict a split seed.
    vae: list[dict[str, Any]] = field(default_factory=list)
    # How far the classifier's probabilities can be trusted, one dict a split seed. A
    # fold of a cross-validation has few images, whose calibration error is too large.
    calibration: list[dict[str, float]] = field(default_factory=list)
    # Where there are VAEs of several seeds: `test_accuracy` is the mean over them.
    seeds: list[int] = field(default_factory=list)
    accuracy_of_seeds: list[list[float]] = field(default_factory=list)  # [seed][split]
    std_over_seeds: float = 0.0  # of each seed's mean over the splits

    @classmethod
    def measured(
        cls,
        num_labels: int,
        classifier: str,
        accuracy: dict[int, float],
        *,
        protocol: str,
        vae: Sequence[dict[str, Any]] = (),
        calibration: Sequence[dict[str, float]] = (),
        of_seeds: Mapping[int, Sequence[float]] | None = None,
    ) -> Self:
        """The row of accuracies by split seed, with mean and deviation.

        `of_seeds` are the accuracies, one a split, that `accuracy` is the mean of.
        """
        values = list(accuracy.values())
        each = [list(row) for row in (of_seeds or {}).values()]
        return cls(
            labels=num_labels,
            classifier=classifier,
            protocol=protocol,
            split_seeds=list(accuracy),
            test_accuracy=values,
            test_accuracy_mean=float(np.mean(values)),
            test_accuracy_std=_deviation(values),
            vae=list(vae),
            calibration=list(calibration),
            seeds=list(of_seeds or ()),
            accuracy_of_seeds=each,
            std_over_seeds=_deviation([float(np.mean(row)) for row in each]),
        )

    @property
    def accuracy_of_kept(self) -> float | None:
        """Of the classifier that the run keeps, which is of the first VAE and split.

        None where it had all labels and none was left to measure it by: what M1
        leaves of a cross-validation.
        """
        if self.protocol == "cross_validation" and not self.vae:
            return None
        return (self.accuracy_of_seeds or [self.test_accuracy])[0][0]

    @property
    def collapsed(self) -> list[int]:
        """Split seeds whose model has collapsed: their accuracy is not a result."""
        pairs = zip(self.split_seeds, self.vae, strict=False)
        return [seed for seed, figures in pairs if figures["collapsed"]]


def _accuracies(row: Row) -> list[float]:
    of_seeds = itertools.chain.from_iterable(row.accuracy_of_seeds)
    return [row.test_accuracy_mean, *row.test_accuracy, *of_seeds]


def _deviation(values: Sequence[float]) -> float:
    """The sample deviation (n - 1), 0 of fewer than two."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


@dataclass(frozen=True)
class Results:
    """A run's results, with all that is needed to judge and repeat them."""

    format_version: int
    recipe: str
    model: str
    seed: int
    dataset: dict[str, Any]
    vae: dict[str, Any]  # of the VAE; if there are several, most labels, first split
    results: list[Row]  # ascending in labels
    seconds: dict[str, float]  # by part, of the commands that measured a row
    device: str
    versions: dict[str, str]
    command: str
    evaluate_on: str = ""  # the recipe's; files of earlier versions lack it

    @property
    def held_out(self) -> str:
        """Whether the images measured on stand for a "test" or for "validation"."""
        named = "validation" if self.dataset["name"].endswith("-validation") else "test"
        return self.evaluate_on or named

    def row(self, num_labels: int) -> Row | None:
        """The row at `num_labels` labels, if the run has one."""
        return next((r for r in self.results if r.labels == num_labels), None)

    def save(self, path: Path) -> None:
        """Writes the file in one rename.

        Raises:
          RunError: when a figure is not a finite number.
        """
        try:
            write_json(path, dataclasses.asdict(self))
        except ValueError:
            raise RunError(
                f"{path}: not written, for some figure of the model is not finite; it"
                " may need a smaller learning_rate, in another --workdir"
            ) from None

    @classmethod
    def load(cls, path: Path) -> Self | None:
        """What `save` wrote, or None where there is no file.

        Raises:
          InputError: for a file of another format.
        """
        if not path.exists():
            return None
        content = read_json(path)
        version = content.get("format_version") if isinstance(content, dict) else None
        if version != FORMAT_VERSION:
            raise InputError(
                f"{path}: format_version is {version}, this version of ssl_vae reads"
                f" {FORMAT_VERSION}; choose another --workdir"
            )
        try:
            rows = [_typed(Row, row) for row in content["results"]]
            results = _typed(cls, content | {"results": rows})
            _check_types(results.dataset, _OF_DATASET)
            shape = results.dataset.get("image_shape", [1, 1, 1])
            if len(shape) != 3 or min(shape) < 1:
                raise ValueError(f"image_shape is {shape}")
            if any(not 0 < len(r.split_seeds) == len(r.test_accuracy) for r in rows):
                raise ValueError("not an accuracy for every split")
            if any(len(set(r.split_seeds)) < len(r.split_seeds) for r in rows):
                raise ValueError("a split twice")
            if not all(0 <= a <= 1 for r in rows for a in _accuracies(r)):
                raise ValueError("an accuracy that is not from 0 to 1")
            if any("error" not in figures for r in rows for figures in r.calibration):
                raise ValueError("calibration without its error")
            if results.evaluate_on not in ("", "test", "validation"):
                raise ValueError(f"evaluate_on is {results.evaluate_on!r}")
            results.table([row.labels for row in rows])  # or raises
            return results
        except (TypeError, KeyError, ValueError, OverflowError) as error:
            raise InputError(
                f"{path}: not a results file ({error}); move it away or choose another"
                " --workdir"
            ) from None

    @classmethod
    def of_finished_run(cls, workdir: str | Path) -> Self:
        """What a run has found.

        Raises:
          InputError: where there is no finished run of this version.
        """
        run = Workdir(workdir)
        try:
            results = cls.load(run.results) if run.config.exists() else None
        except OSError as error:
            raise InputError(f"--workdir={workdir}: {error.strerror}") from None
        if results is None or not results.results:
            raise InputError(
                f"--workdir={workdir}: no finished run is there; train one with"
                " python -m ssl_vae.main --workdir=..."
            )
        if not {"class_names", "image_shape"} <= results.dataset.keys():
            raise InputError(
                f"--workdir={workdir}: a run of an earlier version, which did not say"
                " what its images are; train it anew in another --workdir"
            )
        return results

    def table(self, label_counts: list[int]) -> str:
        """The rows asked for as text, beside the reported reference if it applies."""
        accuracy = f"{self.held_out} accuracy %"
        head = ["labels", "latent dim", "classifier", accuracy, "sd", "splits"]
        if any(row.protocol == "cross_validation" for row in self.results):
            head[3:] = ["cross-validated accuracy %", "sd", "folds"]
        if several := max((len(row.seeds) for row in self.results), default=0):
            head.append(f"sd over {several} seeds")
        known = self.dataset["sha256"] == CANONICAL_SHA256["fashion_mnist"]
        lines = [[*head, "reported reference %"] if known else head]
        for row in (r for r in self.results if r.labels in label_counts):
            several_splits = len(row.split_seeds) > 1
            line = [
                str(row.labels),
                str(self.vae["latent_dim"]),
                row.classifier,
                f"{100 * row.test_accuracy_mean:.2f}",
                f"{100 * row.test_accuracy_std:.2f}" if several_splits else "-",
                str(len(row.split_seeds)),
            ]
            if several:
                line.append(f"{100 * row.std_over_seeds:.2f}")
            reported = REPORTED.get(row.labels)
            lines.append([*line, f"{100 * reported:.2f}" if reported else "-"])
        widths = [max(map(len, column)) for column in zip(*lines, strict=False)]
        text = [
            "  ".join(cell.rjust(w) for cell, w in zip(line, widths, strict=False))
            for line in lines
        ]
        text += [
            f"collapsed at {row.labels} labels, not a result: splits {row.collapsed}"
            for row in self.results
            if row.labels in label_counts and row.collapsed
        ]
        return "\n".join(text)


def _typed(cls: type[T], fields: dict[str, Any]) -> T:
    """`cls(**fields)`, where the values, which come from a file, are of its types.

    Raises:
      TypeError: naming the field that is not.
    """
    made = cls(**fields)
    _check_types(fields, get_type_hints(cls))
    return made


def _check_types(fields: dict[str, Any], kinds: dict[str, Any]) -> None:
    for name, value in fields.items():
        if not _is_of(value, kinds.get(name, Any)):
            raise TypeError(f"{name} is not {kinds[name]}")


def _is_of(value: Any, kind: Any) -> bool:
    origin, args = get_origin(kind), get_args(kind)
    if origin is list:
        return isinstance(value, list) and all(_is_of(v, args[0]) for v in value)
    if origin is dict:
        return isinstance(value, dict) and all(
            _is_of(v, args[1]) for v in value.values()
        )
    if kind is float:
        return type(value) in (int, float)
    return kind is Any or type(value) is kind
