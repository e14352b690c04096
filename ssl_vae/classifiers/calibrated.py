"""An SVM whose scores have become probabilities, and its two files."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ssl_vae.classifiers import confidence, proportions, svm
from ssl_vae.files import replacing

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

FILES = ("classifier.skops", "classifier.json")


@dataclass(frozen=True)
class CalibratedSVM:
    """An SVM with what turns its scores into probabilities.

    Attributes:
      pipeline: Of `svm.fit_svm`.
      temperature: See `confidence.fit_temperature`.
      bias: float [K], added to the log probabilities; see `proportions`.
    """

    pipeline: Pipeline
    temperature: float
    bias: np.ndarray

    @classmethod
    def fitted(
        cls,
        features: np.ndarray,
        labels: np.ndarray,
        *,
        moved: np.ndarray | None = None,
        **settings: Any,
    ) -> Self:
        """Fitted to labeled features, float [n, dim] and int [n], without a bias.

        Args:
          features: Of the labeled images.
          labels: Their classes, 0..K-1, all of which occur.
          moved: Of `svm.fit_svm`.
          **settings: Of `svm.fit_svm`.
        """
        pipeline = svm.fit_svm(features, labels, moved=moved, **settings)
        temperature = confidence.temperature_of(pipeline, features, labels, moved)
        return cls(pipeline, temperature, np.zeros(len(np.unique(labels))))

    def aligned(
        self, features: np.ndarray, shares: np.ndarray
    ) -> tuple[Self, np.ndarray]:
        """The same with the bias that gives the classes these shares of images.

        Args:
          features: Of images that stand for all, float [N, dim].
          shares: Proportions of the classes among them, float [K].

        Returns:
          It, and its log probabilities of those images, float [N, K].
        """
        scores = self.scores(features) / self.temperature
        log_probs = proportions.aligned(scores, self.bias)
        bias = self.bias + proportions.aligning_bias(log_probs, shares)
        better = dataclasses.replace(self, bias=bias)
        return better, proportions.aligned(scores, bias)

    def scores(self, features: np.ndarray) -> np.ndarray:
        """Scores of the classes before temperature and bias, float [N, K]."""
        return confidence.class_scores(self.pipeline, features)

    def log_probs(self, features: np.ndarray) -> np.ndarray:
        """Log probabilities of the classes, float [N, K]."""
        scores = self.scores(features) / self.temperature
        return proportions.aligned(scores, self.bias)

    def save(
        self, folder: Path, *, num_labels: int, beside: Path | None = None
    ) -> None:
        """Writes classifier.skops and classifier.json, each in one rename.

        Args:
          folder: Where they go.
          num_labels: Of the run that it stands for; `load` asks for the same.
          beside: A file that belongs to it, and is there already.
        """
        svm_file, json_file = (folder / name for name in FILES)
        svm.save_svm(self.pipeline, svm_file)
        content = {
            "temperature": self.temperature,
            "bias": self.bias.tolist(),
            "labels": num_labels,
            "svm_sha256": _digest(svm_file),
        }
        if beside:
            content["beside_sha256"] = _digest(beside)
        with replacing(json_file) as partial:
            partial.write_text(json.dumps(content) + "\n")

    @classmethod
    def load(cls, folder: Path, *, num_labels: int, beside: Path | None = None) -> Self:
        """What `save` wrote.

        Args:
          folder: Where it is.
          num_labels: What `save` was given.
          beside: The same.

        Raises:
          OSError: where a file is missing.
          ValueError, KeyError, TypeError: for a file with anything else in it.
        """
        svm_file, json_file = (folder / name for name in FILES)
        try:
            content = json.loads(json_file.read_text())
        except (ValueError, RecursionError):
            raise ValueError(f"{json_file.name} is damaged") from None
        if content["labels"] != num_labels:
            raise ValueError(
                f"{json_file.name} is of {content['labels']} labels and not of"
                f" {num_labels}: the command that trained it was not finished"
            )
        if _digest(svm_file) != content["svm_sha256"]:
            raise ValueError(f"{svm_file.name} is damaged")
        if beside and _digest(beside) != content["beside_sha256"]:
            raise ValueError(f"{beside.name} is damaged")
        bias = np.asarray(content["bias"], np.float64)
        return cls(svm.load_svm(svm_file), float(content["temperature"]), bias)


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
