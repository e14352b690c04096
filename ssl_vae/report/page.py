"""report.html: one run on a page, from what its folder holds."""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ssl_vae import config as recipes
from ssl_vae.report import figures, images, losses, render, words
from ssl_vae.report.attempt import attempt
from ssl_vae.report.baselines import BASELINES, LABELS
from ssl_vae.report.evidence import FILE, Evidence
from ssl_vae.report.figures import Series
from ssl_vae.results import REPORTED, Results, Row
from ssl_vae.workdir import Workdir, read_json

CELLS = 20  # classes at most for a confusion matrix; beyond, pairs
FEW, PAIRS = 8, 30  # confusions that are listed beside the matrix, or without it

Content = dict[str, Any]


def write_report(path: Path, run: Workdir, results: Results, found: Evidence) -> None:
    """Writes the page of a run.

    Args:
      path: Its file.
      run: The folder that holds the recipe and the logs.
      results: Of the run.
      found: The arrays of the run's report, as far as there are any.
    """
    render.write(path, "report.html", content(run, results, found))


def content(run: Workdir, results: Results, found: Evidence) -> Content:
    """What the template shows; a section that fails is named in the log, and empty."""
    images_word = words.images(results)
    sections: dict[str, Callable[[], Any]] = {
        "accuracy": partial(_accuracy, results),
        "confusion": partial(_confusion, found),
        "mistakes": partial(_mistakes, found),
        "calibration": partial(_calibration, found, images_word),
        "reconstructions": partial(_reconstructions, found),
        "samples": partial(_samples, found),
        "plane": partial(_plane, found),
        "units": partial(_units, found),
        "traversals": partial(_traversals, found),
        "losses": partial(_losses, run),
        "recipe": partial(_recipe, run),
    }
    shown: Content = dict.fromkeys(sections)
    for name, section in sections.items():
        with attempt(f"{name} in the report"):
            shown[name] = section()
    return shown | {
        "results": results,
        "newest": results.results[-1],
        "model": words.model(results),
        "held_out": words.held_out(results),
        "splits": words.splits(results),
        "seeds": words.seeds(results),
        "images": images_word,
        "protocols": words.protocols(results),
        "pictures_file": FILE if not found else None,
    }


def series_of(rows: list[Row], name: str, color: str) -> Series:
    """A run's rows as a line of the chart."""
    return Series(
        name,
        color,
        [row.labels for row in rows],
        [row.test_accuracy_mean for row in rows],
        [row.test_accuracy_std for row in rows],
        [row.test_accuracy for row in rows],
    )


def beside(results: Results, protocols: Iterable[str]) -> list[Series]:
    """What stands beside inductive runs of Fashion-MNIST; nothing for others."""
    if not words.is_fashion_mnist(results) or set(protocols) != {"inductive"}:
        return []
    reported = [(accuracy, 0.0) for accuracy in REPORTED.values()]
    known = {"reported reference, one run": ("ink", list(REPORTED), reported)}
    for i, (name, measured) in enumerate(BASELINES.items(), start=1):
        known[name] = (figures.style_color(i), list(LABELS), measured)
    return [
        Series(
            name,
            color,
            labels,
            [mean for mean, _ in measured],
            [deviation for _, deviation in measured],
            [[] for _ in measured],
            "faint",
        )
        for name, (color, labels, measured) in known.items()
    ]


def _accuracy(results: Results) -> Content:
    mine = series_of(results.results, results.recipe, "accent")
    others = beside(results, words.protocols(results))
    columns = sorted({n for s in (mine, *others) for n in s.labels})
    what = f"{words.held_out(results)} accuracy"
    return {
        "chart": figures.accuracy_chart([mine, *others], what),
        "columns": columns,
        "rows": [(s, [s.at(n) for n in columns]) for s in (mine, *others)],
        "beside": others,
        "legend": [(s.name, s.color) for s in (mine, *others)],
    }


def _confusion(found: Evidence) -> Content | None:
    if "confusion" not in found:
        return None
    counts, names = found["confusion"], found["class_names"].tolist()
    totals = counts.sum(axis=1)
    shares = counts / np.maximum(totals, 1)[:, None]
    wrong = np.where(np.eye(len(counts), dtype=bool), 0, counts)
    matrix = len(counts) <= CELLS
    order = np.argsort(-wrong, axis=None, kind="stable")[: FEW if matrix else PAIRS]
    return {
        "names": names,
        "rows": list(zip(names, shares.tolist(), strict=True)),
        "matrix": matrix,
        "pairs": [
            (names[i], names[j], int(wrong[i, j]), float(shares[i, j]))
            for i, j in zip(*np.unravel_index(order, wrong.shape), strict=True)
            if wrong[i, j]
        ],
        "accuracy": float(np.trace(counts) / max(counts.sum(), 1)),
        "total": int(counts.sum()),
    }


def _mistakes(found: Evidence) -> list[Content] | None:
    if "mistakes" not in found:
        return None
    names = found["class_names"].tolist()
    return [
        {
            "image": images.single(image),
            "label": names[label],
            "said": names[said],
            "label_prob": float(label_prob),
            "prob": float(prob),
        }
        for image, (label, said), (label_prob, prob) in zip(
            found["mistakes"],
            found["mistakes_classes"].tolist(),
            found["mistakes_probs"].tolist(),
            strict=True,
        )
    ]


def _calibration(found: Evidence, images_word: str) -> Content | None:
    if "reliability" not in found:
        return None
    share, accuracy = found["surest"]
    half = int(np.argmin(np.abs(share - 0.5)))
    return {
        "error": figures.calibration_error(found),
        "reliability": figures.reliability_chart(found),
        "abstention": figures.abstention_chart(found, images_word),
        "half": float(accuracy[half]),
    }


def _reconstructions(found: Evidence) -> list[tuple[str, str]] | None:
    """Class and picture, the image beside what the model makes of it."""
    if "originals" not in found:
        return None
    pairs = np.stack([found["originals"], found["reconstructions"]], axis=1)
    names = found["class_names"][found["originals_classes"]].tolist()
    return [(name, images.strip(pair)) for name, pair in zip(names, pairs, strict=True)]


def _samples(found: Evidence) -> Content | None:
    """Draws from the prior; for a model with classes a strip a class, and analogies."""
    if "samples" in found:
        return {"grid": images.data_uri(found["samples"])}
    if "styles" not in found:
        return None
    names = found["class_names"].tolist()

    def strips(grid: np.ndarray) -> list[tuple[str, str]]:  # [n, K, ...]: a row a class
        return [(names[k], images.strip(grid[:, k])) for k in range(grid.shape[1])]

    return {
        "grid": None,
        "styles": strips(found["styles"]),
        "originals": images.strip(found["originals"]),
        "analogies": strips(found["analogies"]),
    }


def _plane(found: Evidence) -> Content | None:
    if "plane" not in found:
        return None
    clouds = figures.clouds(found)
    return {
        "chart": figures.plane_chart(found),
        "legend": [(name, figures.style_color(color)) for name, color, _ in clouds],
        "count": len(found["plane"]),
        "gray": clouds[-1].color is None,
    }


def _units(found: Evidence) -> Content | None:
    if "variances" not in found:
        return None
    variances, active = found["variances"], float(found["active_variance"])
    return {
        "chart": figures.units_chart(found),
        "active": int(np.sum(variances > active)),
        "count": len(variances),
        "shown": min(len(variances), figures.BARS),
        "threshold": active,
    }


def _traversals(found: Evidence) -> Content | None:
    if "traversals" not in found:
        return None
    units, variances = found["traversed"].tolist(), found["variances"]
    return {
        "rows": [
            (unit, float(np.sqrt(variances[unit])), images.strip(row))
            for unit, row in zip(units, found["traversals"], strict=True)
        ],
        "start": found["class_names"].tolist()[found["originals_classes"][0]],
    }


def _losses(run: Workdir) -> list[Content]:
    return [
        {
            "title": log.title,
            "charts": losses.loss_charts(log),
            "runs": next(iter(log.metrics.values())).shape[1],
        }
        for log in losses.read_logs(run)
    ]


def _recipe(run: Workdir) -> dict[str, str]:
    fields = recipes.flatten(read_json(run.config)["config"])
    return {name: plain(value) for name, value in fields.items()}


def plain(value: object) -> str:
    """A field's value, as one reads it."""
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value) if value != "" else "none"
