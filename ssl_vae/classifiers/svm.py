"""A scikit-learn RBF support vector machine on feature vectors, and its safe file."""

from pathlib import Path

import numpy as np
import skops.io
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC


def fit_svm(
    features: np.ndarray, labels: np.ndarray, *, C: float, standardize: bool
) -> Pipeline:
    """A fitted pipeline ending in SVC(kernel="rbf", gamma="scale").

    Args:
      features: float [num_labels, dim], one row a labeled image.
      labels: int32 [num_labels], 0..K-1, at least two classes.
      C: The SVM's penalty, above 0; larger fits the labels harder.
      standardize: Whether each feature is first scaled to mean 0 and variance 1.

    Returns:
      A pipeline with `predict` and `score`.
    """
    svc = SVC(kernel="rbf", C=C, gamma="scale")
    steps = [StandardScaler(), svc] if standardize else [svc]
    return make_pipeline(*steps).fit(features, labels)


def save_svm(pipeline: Pipeline, path: Path) -> None:
    """Writes the pipeline as a skops file, which holds data and no code."""
    partial = path.with_name(path.name + ".partial")
    skops.io.dump(pipeline, partial)
    partial.replace(path)


def load_svm(path: Path) -> Pipeline:
    """The pipeline that `save_svm` wrote; refuses a file with any type but ours."""
    return skops.io.load(path, trusted=[])
