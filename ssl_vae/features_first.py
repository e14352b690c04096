"""One way to use unlabeled images: a VAE of all of them, then an SVM on its features.

The VAE learns no labels, so one serves every number of labels and every label split.
What the SVM says may be smoothed over the graph of the images. There may be several
VAEs, of as many seeds, and an SVM on the features of each: then the accuracies are
means over them, and of all else the first stands for all.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ssl_vae import evaluate, svms
from ssl_vae.errors import Stopped
from ssl_vae.evaluate import Judged
from ssl_vae.extractor import Extracted, extract
from ssl_vae.job import Job, Keys, Outcome
from ssl_vae.results import Row
from ssl_vae.splits import Split
from ssl_vae.svms import Fit, Fitted


class Said(NamedTuple):
    """What the classifier of a label split says of the images it is measured on."""

    kept: list[Fitted]  # the classifier, of the first split alone: they take memory
    temperature: float
    scores: np.ndarray  # [n, K]; the highest is the class that it answers


class Measured(NamedTuple):
    """The classifiers of a VAE at a number of labels."""

    judged: Judged
    kept: Fitted


def train_and_measure(job: Job) -> Iterator[Outcome]:
    """Trains the VAEs, fits the classifiers that are missing, and keeps one.

    The one that is kept is that of the most labels of the run, first split or, in
    cross-validation, of all of them.
    """
    plan = job.plan
    first: Extracted | None = None
    figures = []
    measured: dict[int, list[Measured]] = {n: [] for n in plan.missing}
    for extracted in extract(job, Keys.of_seeds(plan.seeds)):
        first = first or extracted
        figures.append(extracted.vae)
        with job.clock.part("classifier"):
            fit = svms.fitter(job, extracted)
            for num_labels, of_seeds in measured.items():
                of_seeds.append(_measured(job, num_labels, fit))
    if first is None:
        return
    rows = [_row(job, num_labels, each) for num_labels, each in measured.items()]
    newest = measured[plan.missing[-1]][0]
    if plan.is_newest(plan.missing[-1]):
        newest.kept.save(plan.workdir, plan.missing[-1])
    vae = figures[0] | ({"of_seeds": figures} if len(figures) > 1 else {})
    model, params, _, _, test_features = first
    yield Outcome(rows, model, params, vae, test_features, newest.judged.probs)


def _row(job: Job, num_labels: int, of_seeds: list[Measured]) -> Row:
    """A row of results."""
    plan = job.plan
    each = [list(measured.judged.accuracy.values()) for measured in of_seeds]
    means = np.mean(each, axis=0).tolist()
    return Row.measured(
        num_labels,
        svms.name_of(job),
        dict(zip(plan.split_seeds(num_labels), means, strict=True)),
        protocol=plan.splits(num_labels).protocol,
        calibration=of_seeds[0].judged.calibration,
        of_seeds=dict(zip(plan.seeds, each, strict=True)) if len(each) > 1 else {},
    )


def _measured(job: Job, num_labels: int, fit: Fit) -> Measured:
    """The classifiers of all label splits on the features of one VAE.

    In cross-validation the one that is kept has all the labels, and every image's probs
    are those of one that was not given its label.
    """
    plan = job.plan
    splits = plan.splits(num_labels)
    every_split = [splits.split(seed) for seed in plan.split_seeds(num_labels)]

    def said(split: Split) -> Said:
        _heed(job, num_labels)
        fitted = fit(split.labeled)
        kept = [fitted] if split is every_split[0] else []
        return Said(kept, fitted.temperature, fitted.scores(split.measured))

    all_kept, temperatures, scores = zip(
        *svms.side_by_side(said, every_split), strict=True
    )
    [kept] = all_kept[0]
    if plan.data.cross_validated:
        _heed(job, num_labels)
        [kept] = svms.side_by_side(fit, [splits.chosen])
    labels = plan.data.test_labels
    judged = evaluate.judged(every_split, scores, labels, temperatures=temperatures)
    return Measured(judged, kept)


def _heed(job: Job, num_labels: int) -> None:
    if job.stop():
        raise Stopped(f"in the classifiers for {num_labels} labels")
