"""An SVM whose guesses about the training images were smoothed over their graph."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from scipy import sparse

from ssl_vae.classifiers.calibrated import CalibratedSVM
from ssl_vae.classifiers.graph import Neighbors, smoothed
from ssl_vae.errors import in_a_line
from ssl_vae.files import replacing

LEAST_PROB = 1e-9


@dataclass(frozen=True)
class SmoothedSVM:
    """What an SVM says of an image, and what it says of images that look like it.

    Attributes:
      svm: It says p(x), the probabilities of the classes.
      neighbors: Vertices x_j; those that are neighbors of x have weights w_j(x).
      values: Probabilities v_j of the vertices after `graph.smoothed`, float [V, K].
      strength: s, above 0, of

        (p(x) + s sum_j w_j(x) v_j) / (1 + s),

        which is where the squared distances from p(x) and, s times, from the neighbors'
        values are least: so did the vertices get theirs. An image that is a vertex is
        no neighbor of its own here either.
    """

    svm: CalibratedSVM
    neighbors: Neighbors
    values: np.ndarray
    strength: float

    @classmethod
    def fitted(
        cls,
        svm: CalibratedSVM,
        neighbors: Neighbors,
        graph: sparse.csr_array,
        probs: np.ndarray,
        *,
        strength: float,
    ) -> Self:
        """With what comes of the SVM's probabilities of the vertices.

        Args:
          svm: Fitted to the labeled.
          neighbors: Of the vertices.
          graph: Theirs.
          probs: What the SVM says of them, float [V, K].
          strength: See above.
        """
        values = np.maximum(smoothed(graph, probs, strength), 0)
        values /= values.sum(axis=1, keepdims=True)  # a little off, as it was solved
        return cls(svm, neighbors, values.astype(np.float32), strength)

    def log_probs(self, features: np.ndarray) -> np.ndarray:
        """Log probabilities of the classes, float [N, K], of features [N, dim]."""
        return self.given(features, self.neighbors.of(features))

    def given(self, features: np.ndarray, near: sparse.csr_array) -> np.ndarray:
        """The same where the weights of the neighbors, `neighbors.of`, are known."""
        probs = np.exp(self.svm.log_probs(features))
        both = (probs + self.strength * (near @ self.values)) / (1 + self.strength)
        return np.asarray(np.log(np.maximum(both, LEAST_PROB)))

    def save(self, folder: Path, graph: Path, *, num_labels: int) -> None:
        """Writes vertices and values side by side, then the SVM, each in one rename.

        Args:
          folder: Where the files of the SVM go.
          graph: Where the graph goes, as a .npy file.
          num_labels: Of the run that it stands for; `load` asks for the same.
        """
        graph.parent.mkdir(parents=True, exist_ok=True)
        with replacing(graph) as partial, partial.open("wb") as file:
            np.save(file, np.hstack([self.neighbors.vertices, self.values]))
        self.svm.save(folder, num_labels=num_labels, beside=graph)

    @classmethod
    def load(
        cls,
        folder: Path,
        graph: Path,
        *,
        num_labels: int,
        num_neighbors: int,
        strength: float,
    ) -> Self:
        """What `save` wrote.

        Args:
          folder: Where the SVM is.
          graph: Where the graph is.
          num_labels: What `save` was given.
          num_neighbors: Of the neighbors.
          strength: As it was.

        Raises:
          OSError: where a file is missing.
          ValueError, KeyError, TypeError: for a file with anything else in it.
        """
        svm = CalibratedSVM.load(folder, num_labels=num_labels, beside=graph)
        both = _read(graph)
        num_classes = len(svm.bias)
        if (
            both.dtype != np.float32
            or both.ndim != 2
            or both.shape[1] != svm.pipeline.n_features_in_ + num_classes
            or len(both) <= num_neighbors
            or not np.isfinite(both).all()
        ):
            raise ValueError(f"{graph.name} holds {both.dtype}{list(both.shape)}")
        vertices, values = np.split(both, [both.shape[1] - num_classes], axis=1)
        neighbors = Neighbors(np.ascontiguousarray(vertices), num_neighbors)
        return cls(svm, neighbors, np.ascontiguousarray(values), strength)


def _read(path: Path) -> np.ndarray:
    """The array in a .npy file, which has to be as long as its header says."""
    try:
        return np.array(np.lib.format.open_memmap(path, mode="r"))
    except OSError:
        raise
    except Exception as error:  # a header may fail in many ways
        text = in_a_line(error, 120)
        raise ValueError(f"{path.name} holds no array ({text})") from error
