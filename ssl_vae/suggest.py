"""The unlabeled training images of a run whose labels would help it most."""

import csv
import io

import numpy as np

from ssl_vae import trained
from ssl_vae.classifiers.queries import most_useful
from ssl_vae.datasets import Images
from ssl_vae.files import replacing
from ssl_vae.plan import Plan
from ssl_vae.report import pictures
from ssl_vae.workdir import Workdir

AT_A_TIME = 20_000  # images


def write_suggestions(plan: Plan, num: int) -> str:
    """Writes suggestions.csv and suggestions.png into the folder of a finished run.

    The images are those that the run's classifier of the most labels is unsure of, see
    `classifiers.queries`. None of them has a label that it learned from; labels that
    the data has and the run did not use are not looked at.

    Args:
      plan: Of the run.
      num: How many images.

    Returns:
      What was written, in a line.
    """
    classifier = trained.load(plan.workdir.path)
    data = plan.data
    known = plan.splits(classifier.num_labels).known
    rows = np.setdiff1d(np.arange(len(data.train_labels)), known)
    if not len(rows):
        return "no image to label next: the run has learned every label there is"
    log_probs, features = _looked_at(classifier, data.train_images, rows)
    chosen = most_useful(log_probs, features, num)
    probs = np.exp(log_probs[chosen])
    names = classifier.class_names
    table, captions = [], []
    for source, row in zip(data.train_sources[rows[chosen]], probs, strict=True):
        second, first = np.argsort(row, kind="stable")[-2:]
        captions.append(f"{names[first]} or\n{names[second]}?")
        table.append(
            {
                "image": str(source),
                "class": names[first],
                "probability": f"{row[first]:.4f}",
                "runner_up": names[second],
                "runner_up_probability": f"{row[second]:.4f}",
            }
        )
    _write(plan.workdir, table)
    sheet = plan.workdir.path / "suggestions.png"
    pictures.save(
        pictures.contact_sheet(data.train_images[rows[chosen]], captions), sheet
    )
    plan.workdir.push()
    paths = map(plan.workdir.address, (sheet.with_suffix(".csv"), sheet))
    return f"{len(chosen)} images to label next: {', '.join(map(str, paths))}"


def _looked_at(
    classifier: trained.TrainedClassifier, images: Images, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Log probabilities and features of some rows; of few at a time, for memory."""
    parts = []
    for some in np.array_split(rows, -(-len(rows) // AT_A_TIME)):
        taken = images[some]
        parts.append((classifier.predict_log_proba(taken), classifier.features(taken)))
    log_probs, features = zip(*parts, strict=True)
    return np.concatenate(log_probs), np.concatenate(features)


def _write(run: Workdir, table: list[dict[str, str]]) -> None:
    """The table as a CSV file, in one rename."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(table[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    with replacing(run.path / "suggestions.csv") as partial:
        partial.write_text(text.getvalue(), "utf-8", errors="surrogateescape")
