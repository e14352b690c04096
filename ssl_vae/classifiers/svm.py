"""A scikit-learn RBF support vector machine on feature vectors, and its safe file.

scikit-learn takes two seconds to import, so that is done where it is first used, which
is after the training.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ssl_vae.errors import InputError, in_a_line
from ssl_vae.files import replacing

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

FACTORS = [1 / 3, 1.0, 3.0]  # of C and of gamma, tried by cross-validation
FOLDS = 3
MOST_REPEATS = 20  # a handful of labels would get hundreds, and take half a minute
MAX_BYTES = 1 << 30  # of a file of `save_svm`, unpacked


def fit_svm(
    features: np.ndarray,
    labels: np.ndarray,
    *,
    C: float,
    standardize: bool,
    cross_validate: bool = False,
    moved: np.ndarray | None = None,
) -> Pipeline:
    """A fitted pipeline ending in SVC(kernel="rbf").

    Args:
      features: float [num_labels, dim], one row a labeled image.
      labels: int32 [num_labels], 0..K-1, at least two classes.
      C: The SVM's penalty, above 0; larger fits the labels harder.
      standardize: Whether each feature is first scaled to mean 0 and variance 1.
      cross_validate: Whether C and gamma may depart from this C and gamma="scale", see
        `better_settings`; that looks at `features` alone, in as many threads as
        `joblib.parallel_config` allows.
      moved: Features of the same images moved in some ways, float [ways, num_labels,
        dim], which it learns from too.

    Returns:
      A pipeline with `predict` and `score`.
    """
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    # Values of all pairs of classes tell more of how sure it is, see `confidence`.
    svc = SVC(kernel="rbf", C=C, gamma="scale", decision_function_shape="ovo")
    steps = [StandardScaler(), svc] if standardize else [svc]
    pipeline = make_pipeline(*steps)
    if cross_validate:
        pipeline.set_params(**better_settings(pipeline, features, labels))
    return pipeline.fit(*with_moved(features, labels, moved))


def with_moved(
    features: np.ndarray, labels: np.ndarray, moved: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Features and labels with those of the moved images, see `fit_svm`, below them."""
    if moved is None:
        return features, labels
    return np.concatenate([features, *moved]), np.tile(labels, 1 + len(moved))


def better_settings(
    pipeline: Pipeline, features: np.ndarray, labels: np.ndarray
) -> dict[str, float]:
    """C and gamma for `fit_svm`, by repeated stratified cross-validation.

    Three values of each around the pipeline's own are tried. With few labels the best
    of many is best by chance, so the pipeline's own stand unless others are better by
    more than one standard error of the difference. The folds share most of what they
    are fitted to, however often they are drawn anew, so that error is not the one of
    independent folds, but that of the corrected resampled t-test: Nadeau and Bengio
    2003, "Inference for the generalization error", Machine Learning 52, 239-281.

    Args:
      pipeline: With gamma="scale".
      features: float [num_labels, dim].
      labels: int32 [num_labels].

    Returns:
      Parameters that `pipeline` is to be set to; none where its own stand, as they do
      where a class has a single label.
    """
    from sklearn.model_selection import GridSearchCV, RepeatedStratifiedKFold

    folds = min(FOLDS, int(np.min(np.unique(labels, return_counts=True)[1])))
    if folds < 2:
        return {}
    scaled = pipeline[:-1].fit_transform(features) if len(pipeline) > 1 else features
    scale = 1 / (scaled.shape[1] * scaled.var() + 1e-12)
    repeats = min(max(2, 1000 // len(labels)), MOST_REPEATS)
    search = GridSearchCV(
        pipeline,
        {
            "svc__C": [f * pipeline[-1].C for f in FACTORS],
            "svc__gamma": [f * scale for f in FACTORS],
        },
        cv=RepeatedStratifiedKFold(n_splits=folds, n_repeats=repeats, random_state=0),
        refit=False,
    )
    search.fit(features, labels)
    found = search.cv_results_
    scores = np.stack([found[f"split{i}_test_score"] for i in range(folds * repeats)])
    own = len(found["params"]) // 2  # the middle of the grid
    gain = scores - scores[:, [own]]
    # Measured images for every fitted one: 1 to folds - 1.
    error = gain.std(axis=0, ddof=1) * np.sqrt(1 / len(gain) + 1 / (folds - 1))
    best = int(np.argmax(gain.mean(axis=0)))
    return found["params"][best] if gain.mean(axis=0)[best] > error[best] else {}


def save_svm(pipeline: Pipeline, path: Path) -> None:
    """Writes the pipeline as a skops file, which holds data and no code."""
    import skops.io

    with replacing(path) as partial:
        skops.io.dump(pipeline, partial)


def load_svm(path: Path) -> Pipeline:
    """The pipeline that `save_svm` wrote; refuses a file with any type but ours.

    Raises:
      InputError: for a file that is damaged, too large or something else.
    """
    import skops.io

    try:
        with zipfile.ZipFile(path) as file:
            size = sum(part.file_size for part in file.infolist())
        if size > MAX_BYTES:
            raise ValueError(f"it unpacks to {size} bytes")
        return skops.io.load(path, trusted=[])
    except Exception as error:  # skops raises whatever the content leads it to
        raise InputError(
            f"{path}: not a classifier that can be read ({in_a_line(error, 120)})"
        ) from error
