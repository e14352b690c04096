"""Pictures of a trained model, as PNG files in its workdir."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from ssl_vae.files import replacing
from ssl_vae.report import figures
from ssl_vae.report.attempt import attempt
from ssl_vae.report.evidence import Evidence

SHEET_COLUMNS = 10


def save_pictures(folder: Path, evidence: Evidence) -> None:
    """Writes reconstructions.png, latent_space.png and confidence.png.

    For a model that learns labels also analogies.png and samples.png. A picture that
    fails is named in the log and left out.
    """
    needs = {
        reconstructions: "reconstructions",
        latent_space: "plane",
        confidence: "surest",
        analogies: "analogies",
        samples: "styles",
    }
    for draw, part in needs.items():
        if part in evidence:
            with attempt(f"{draw.__name__}.png"):
                save(draw(evidence), folder / f"{draw.__name__}.png")


def save(figure: Figure, path: Path) -> None:
    """Writes a PNG file in one rename."""
    with replacing(path) as partial:
        figure.savefig(partial, format="png")


def _grid(pictures: np.ndarray, column_names: Sequence[str]) -> tuple[Figure, Any]:
    """A figure of gray or color pictures, uint8 [rows, columns, H, W, C]."""
    rows, columns = pictures.shape[:2]
    figure = Figure(
        figsize=(1.0 * columns, 1.0 * rows + 0.4), dpi=150, layout="constrained"
    )
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis, picture in zip(
        axes.flat, pictures.reshape(-1, *pictures.shape[2:]), strict=True
    ):
        gray = picture.shape[-1] == 1
        axis.imshow(picture[..., 0] if gray else picture, cmap="gray", vmin=0, vmax=255)
        axis.set(xticks=[], yticks=[])
    for axis, name in zip(axes[0], column_names, strict=True):
        axis.set_title(name, fontsize=8, parse_math=False)
    return figure, axes


def contact_sheet(images: np.ndarray, captions: Sequence[str]) -> Figure:
    """Images uint8 [n, H, W, C] in rows of ten, each under its caption."""
    columns = min(len(images), SHEET_COLUMNS)
    empty = -len(images) % columns
    padded = np.concatenate([images, np.zeros([empty, *images.shape[1:]], np.uint8)])
    figure, axes = _grid(padded.reshape(-1, columns, *images.shape[1:]), [""] * columns)
    for axis, caption in zip(axes.flat, [*captions, *[None] * empty], strict=True):
        if caption is None:
            axis.set_visible(False)
        else:
            axis.set_title(caption, fontsize=6, parse_math=False)
    return figure


def reconstructions(evidence: Evidence) -> Figure:
    """One test image of each class above its reconstruction by the model."""
    pictures = np.stack([evidence["originals"], evidence["reconstructions"]])
    names = evidence["class_names"][evidence["originals_classes"]].tolist()
    figure, axes = _grid(pictures, names)
    axes[0, 0].set_ylabel("test image", fontsize=8)
    axes[1, 0].set_ylabel("reconstruction", fontsize=8)
    return figure


def analogies(evidence: Evidence) -> Figure:
    """A test image of each class, and its style in every class: one row an image."""
    names, every_class = evidence["class_names"], evidence["analogies"]
    pictures = np.concatenate([evidence["originals"][:, None], every_class], axis=1)
    figure, axes = _grid(pictures, ["test image", *names[: every_class.shape[1]]])
    for axis, k in zip(axes[:, 0], evidence["originals_classes"], strict=True):
        axis.set_ylabel(names[k], fontsize=8, parse_math=False)
    return figure


def samples(evidence: Evidence) -> Figure:
    """Styles drawn from p(z) in every class: one row a style."""
    pictures = evidence["styles"]
    figure, axes = _grid(
        pictures, evidence["class_names"].tolist()[: pictures.shape[1]]
    )
    for number, axis in enumerate(axes[:, 0], start=1):
        axis.set_ylabel(f"style {number}", fontsize=8)
    return figure


def latent_space(evidence: Evidence) -> Figure:
    """Test images in the plane of the first two principal components, by class."""
    clouds = figures.clouds(evidence)
    figure = Figure(figsize=(7, 5.2), dpi=150, layout="constrained")
    axis = figure.subplots()
    colors = matplotlib.colormaps["tab10"]
    marks = []
    for _, k, at in clouds:
        look = {"color": "0.85", "zorder": 0} if k is None else {"color": colors(k)}
        marks.append(axis.scatter(at[:, 0], at[:, 1], s=4, alpha=0.6, **look))
    axis.set(
        xlabel="first principal component of the posterior means",
        ylabel=f"second ({100 * evidence['plane_share']:.0f} % of the variance"
        " together)",
    )
    legend = figure.legend(
        marks,
        [name for name, _, _ in clouds],
        loc="outside right upper",
        markerscale=3,
        frameon=False,
        fontsize=8,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure


def confidence(evidence: Evidence) -> Figure:
    """How right it is where it is sure, and on the images that it is surest of."""
    figure = Figure(figsize=(8, 3.6), dpi=150, layout="constrained")
    left, right = figure.subplots(1, 2)
    counts, said, was = evidence["reliability"]
    some = counts > 0
    left.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    sizes = 8 + 150 * counts[some] / counts.max()
    left.scatter(said[some], was[some], s=sizes, alpha=0.8)
    left.set(xlabel="probability of the likeliest class", ylabel="accuracy")
    error = figures.calibration_error(evidence)
    left.set_title(f"expected calibration error {error:.3f}", fontsize=9)
    share, accuracy = evidence["surest"]
    late = share > 0.02  # means over a few images jump about
    right.plot(100 * share[late], 100 * accuracy[late])
    right.set(
        xlabel="% of the test images answered, surest first",
        ylabel="accuracy on them, %",
    )
    right.set_title("accuracy with abstention", fontsize=9)
    return figure
