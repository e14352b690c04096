"""What a VAE has to beat: other features for the SVM, and other uses of the unlabeled.

    python benchmarks/baselines.py
    python benchmarks/baselines.py --labels=3000 --row="PCA-50, label spreading"

The data, the labeled images of a split, the test images and the choice of the SVM's C
and gamma are those of the recipe `m1_features`. The other classifiers, scikit-learn's
too, have its default settings but for what is said in the code. Self-training and label
spreading see the labeled images and at most 10 000 others, as components of PCA.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import joblib
import numpy as np
from shared import at_least, mean_and_deviation, with_test_images
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.semi_supervised import LabelSpreading, SelfTrainingClassifier

from ssl_vae import datasets
from ssl_vae.checked import without_validation
from ssl_vae.classifiers.confidence import class_scores
from ssl_vae.classifiers.svm import fit_svm
from ssl_vae.datasets import Dataset
from ssl_vae.errors import InputError
from ssl_vae.evaluate import map_images
from ssl_vae.gradients import oriented_gradients
from ssl_vae.labels import check_num_labels, choose_labeled

NUM_UNLABELED = 10_000
NUM_COMPONENTS = 50

Features = Sequence[np.ndarray]  # of the training and of the test images
# Features of the labeled, their classes, features of some unlabeled -> a classifier.
Fit = Callable[[np.ndarray, np.ndarray, np.ndarray], Any]


class ByScores(NamedTuple):
    """An SVM that names the class of the highest score, as those of the recipes do."""

    pipeline: Pipeline

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Classes [N] of features [N, dim]."""
        return class_scores(self.pipeline, x).argmax(axis=1)


def svm(x: np.ndarray, y: np.ndarray, _: np.ndarray) -> object:
    """RBF SVM, C and gamma by cross-validation on the labeled."""
    with joblib.parallel_config(backend="threading", n_jobs=-1):
        return ByScores(fit_svm(x, y, C=2.0, standardize=False, cross_validate=True))


def network(x: np.ndarray, y: np.ndarray, _: np.ndarray) -> object:
    """Two hidden layers of 500."""
    return MLPClassifier((500, 500), max_iter=200, random_state=0).fit(x, y)


def self_training(x: np.ndarray, y: np.ndarray, unlabeled: np.ndarray) -> object:
    """Logistic regression that adds what it is sure of, by 0.9, to the labeled."""
    base = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    return SelfTrainingClassifier(base, threshold=0.9).fit(*together(x, y, unlabeled))


def label_spreading(x: np.ndarray, y: np.ndarray, unlabeled: np.ndarray) -> object:
    """Labels that spread over the graph of the 10 nearest neighbors."""
    spreading = LabelSpreading(kernel="knn", n_neighbors=10)
    return spreading.fit(*together(x, y, unlabeled))


def together(x: np.ndarray, y: np.ndarray, unlabeled: np.ndarray) -> Features:
    """All examples, and their classes with -1 where there is none."""
    classes = np.concatenate([y, np.full(len(unlabeled), -1)])
    return np.concatenate([x, unlabeled]), classes


# Name in the table: what the classifier is given, and the classifier.
ROWS: dict[str, tuple[str, Fit]] = {
    "pixels, SVM": ("pixels", svm),
    f"PCA-{NUM_COMPONENTS}, SVM": ("components", svm),
    "oriented gradients, SVM": ("gradients", svm),
    "pixels, network of the labeled alone": ("pixels", network),
    f"PCA-{NUM_COMPONENTS}, self-training": ("components", self_training),
    f"PCA-{NUM_COMPONENTS}, label spreading": ("components", label_spreading),
}


def features_of(data: Dataset) -> dict[str, Features]:
    """All that a row may be given, by its name there."""
    pixels = [
        images.reshape(len(images), -1).astype(np.float32) / 255
        for images in (data.train_images, data.test_images)
    ]

    def gradients_of(_: object, x: Any) -> Any:
        return oriented_gradients(x, data.image_shape)

    gradients = [np.asarray(map_images(gradients_of, {}, x)) for x in pixels]
    pca = PCA(NUM_COMPONENTS, svd_solver="covariance_eigh").fit(pixels[0])
    components = [pca.transform(x) for x in pixels]
    return {"pixels": pixels, "components": components, "gradients": gradients}


def accuracy(
    data: Dataset, features: Features, fit: Fit, num_labels: int, split_seed: int
) -> float:
    """Of one classifier on the test images, in [0, 1]."""
    train, test = features
    chosen = choose_labeled(data.train_labels, num_labels, split_seed=split_seed)
    others = np.setdiff1d(np.arange(len(train)), chosen)
    rng = np.random.default_rng(split_seed)
    some = rng.choice(others, min(NUM_UNLABELED, len(others)), replace=False)
    fitted = fit(train[chosen], data.train_labels[chosen], train[some])
    with np.errstate(invalid="ignore"):  # images that no label spreads to: class 0
        return float(np.mean(fitted.predict(test) == data.test_labels))


def whole_numbers(text: str) -> list[int]:
    """For --labels=100,600."""
    return [int(count) for count in text.split(",")]


def main() -> None:
    """Prints the table, a row as soon as it is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--labels", type=whole_numbers, default="100,600,1000,3000")
    parser.add_argument("--num_splits", type=at_least(1), default=10)
    parser.add_argument("--dataset", default="fashion_mnist")
    parser.add_argument("--data_dir")
    parser.add_argument("--evaluate_on", choices=["test", "validation"], default="test")
    parser.add_argument(
        "--row", action="append", choices=ROWS, metavar="NAME", help="may be repeated"
    )
    flags = parser.parse_args()
    try:
        data = datasets.load(flags.dataset, flags.data_dir)
        held_out = flags.evaluate_on == "validation"
        data = without_validation(data) if held_out else with_test_images(data)
        for num_labels in flags.labels:
            check_num_labels(data.train_labels, num_labels)
    except InputError as error:
        parser.error(str(error))
    print(f"{flags.evaluate_on} accuracy %, {flags.num_splits} label splits, inductive")
    print(" " * 38 + "".join(f"{count:>16}" for count in flags.labels) + "   seconds")
    features = features_of(data)
    for name in flags.row or ROWS:
        given, fit = ROWS[name]
        start, row = time.perf_counter(), ""
        for num_labels in flags.labels:
            scores = [
                100 * accuracy(data, features[given], fit, num_labels, split_seed)
                for split_seed in range(flags.num_splits)
            ]
            row += f"{mean_and_deviation(scores):>16}"
        print(f"{name:38}{row}{time.perf_counter() - start:10.0f}", flush=True)


if __name__ == "__main__":
    main()
