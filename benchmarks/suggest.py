"""What labeling the suggested images buys over labeling some at random.

    python benchmarks/suggest.py --workdir=checkpoints/m1_features-fashion_mnist-seed42

Starts from 100 labels, adds 20 at a time, suggested by the SVM so far or drawn at
random, and fits the SVM anew; its features, those of a finished run of M1, stay as they
are. Suggestions are made among 10 000 images whose label is not used yet. Prints the
test accuracy at every number of labels, over label splits, and writes a figure.
"""

import argparse
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from shared import at_least, mean_and_deviation, with_test_images

import ssl_vae
from ssl_vae import datasets
from ssl_vae.classifiers.calibrated import CalibratedSVM
from ssl_vae.classifiers.queries import most_useful
from ssl_vae.errors import InputError
from ssl_vae.labels import choose_labeled

START, BATCH, END = 100, 20, 300
POOL = 10_000
WAYS = ("suggested", "at random")


def with_enough_labels(data: datasets.Dataset) -> datasets.Dataset:
    """The data, where START labels can be shared evenly and END are there.

    Raises:
      InputError: where not.
    """
    scarcest = np.bincount(data.train_labels[data.train_labels >= 0]).min()
    each, rest = divmod(START, data.num_classes)
    if rest or each > scarcest or data.num_labeled < END:
        raise InputError(
            f"--dataset: {data.name} has {data.num_labeled} labels, {scarcest} of the"
            f" scarcest of {data.num_classes} classes; this needs {END}, and {START}"
            " that the classes share evenly"
        )
    return data


def accuracies(
    data: datasets.Dataset, features: tuple[np.ndarray, np.ndarray], seed: int, way: str
) -> list[float]:
    """Test accuracy, in [0, 1], at START, START + BATCH, ... END labels."""
    train, test = features
    rng = np.random.default_rng(seed)
    labels = data.train_labels
    known = choose_labeled(labels, START, split_seed=seed)
    others = np.setdiff1d(np.flatnonzero(labels >= 0), known)
    pool = rng.choice(others, min(POOL, len(others)), replace=False)
    found = []
    while True:
        fitted = CalibratedSVM.fitted(
            train[known], labels[known], C=2.0, standardize=False, cross_validate=False
        )
        answers = fitted.log_probs(test).argmax(axis=1)
        found.append(float(np.mean(answers == data.test_labels)))
        if len(known) >= END:
            return found
        rest = np.setdiff1d(pool, known)
        if way == "suggested":
            log_probs = fitted.log_probs(train[rest])
            new = rest[most_useful(log_probs, train[rest], BATCH)]
        else:
            new = rng.choice(rest, BATCH, replace=False)
        known = np.concatenate([known, new])


def draw(counts: list[int], curves: dict[str, np.ndarray]) -> Figure:
    """Mean and standard deviation over splits, in %."""
    matplotlib.use("Agg")
    figure = Figure(figsize=(5, 3.4), dpi=150, layout="constrained")
    axis = figure.subplots()
    for way, scores in curves.items():
        mean, deviation = scores.mean(axis=0), scores.std(axis=0, ddof=1)
        axis.plot(counts, mean, label=way)
        axis.fill_between(counts, mean - deviation, mean + deviation, alpha=0.15)
    axis.set(xlabel="labels", ylabel="test accuracy, %")
    axis.legend(frameon=False, title="images labeled")
    return figure


def main() -> None:
    """Prints the table and writes the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", required=True, help="a finished run of M1")
    parser.add_argument("--dataset", default="fashion_mnist")
    parser.add_argument("--data_dir")
    parser.add_argument("--num_splits", type=at_least(2), default=10)
    parser.add_argument("--output", type=Path, default=Path("suggest.png"))
    flags = parser.parse_args()
    try:
        data = with_test_images(datasets.load(flags.dataset, flags.data_dir))
        data = with_enough_labels(data)
        classifier = ssl_vae.load(flags.workdir)
        features = tuple(
            classifier.features(images)
            for images in (data.train_images, data.test_images)
        )
    except InputError as error:
        parser.error(str(error))
    counts = list(range(START, END + 1, BATCH))
    curves = {
        way: 100
        * np.array(
            [accuracies(data, features, seed, way) for seed in range(flags.num_splits)]
        )
        for way in WAYS
    }
    print("labels  " + "".join(f"{way:>16}" for way in WAYS))
    for i, count in enumerate(counts):
        cells = [mean_and_deviation(scores[:, i]) for scores in curves.values()]
        print(f"{count:6}  " + "".join(f"{cell:>16}" for cell in cells))
    draw(counts, curves).savefig(flags.output)
    print(flags.output)


if __name__ == "__main__":
    main()
