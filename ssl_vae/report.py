"""Pictures of a trained model, as PNG files in its workdir."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from matplotlib.figure import Figure

from ssl_vae.classifiers import confidence
from ssl_vae.datasets import Dataset
from ssl_vae.models import JointModel, Model, Params

COLUMNS = 10
STYLES = 6
SCATTER_IMAGES = 5_000


def save_pictures(
    folder: Path,
    model: Model,
    params: Params,
    data: Dataset,
    test_features: np.ndarray,
    test_probs: np.ndarray,
) -> None:
    """Writes reconstructions.png, latent_space.png and confidence.png.

    For a model that learns labels also analogies.png and samples.png.

    Args:
      folder: Where they go.
      model: The trained model.
      params: Its weights.
      data: Gives the test images, their labels and the names of the classes.
      test_features: Features of the test images, float [M, latent].
      test_probs: Probabilities of their classes, float [M, K].
    """
    matplotlib.use("Agg")
    reconstructions(model, params, data).savefig(folder / "reconstructions.png")
    latent_space(test_features, data).savefig(folder / "latent_space.png")
    trust(test_probs, data.test_labels).savefig(folder / "confidence.png")
    if isinstance(model, JointModel):
        analogies(model, params, data).savefig(folder / "analogies.png")
        samples(model, params, data).savefig(folder / "samples.png")


def _one_of_each_class(data: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Up to COLUMNS classes, and an index of a test image of each."""
    classes = np.unique(data.test_labels)[:COLUMNS]  # a small test set may lack some
    return classes, np.array([np.argmax(data.test_labels == k) for k in classes])


def _pixels(images: np.ndarray) -> jax.Array:
    """uint8 [n, H, W, C] -> float32 in [0, 1], [n, pixels]."""
    return jnp.asarray(images.reshape(len(images), -1), jnp.float32) / 255


def _grid(pictures: np.ndarray, column_names: Sequence[str]) -> tuple[Figure, Any]:
    """A figure of gray or color pictures, float [rows, columns, H, W, C] in [0, 1]."""
    rows, columns = pictures.shape[:2]
    figure = Figure(
        figsize=(1.0 * columns, 1.0 * rows + 0.4), dpi=150, layout="constrained"
    )
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis, picture in zip(
        axes.flat, pictures.reshape(-1, *pictures.shape[2:]), strict=True
    ):
        axis.imshow(picture.squeeze(), cmap="gray", vmin=0, vmax=1)
        axis.set(xticks=[], yticks=[])
    for axis, name in zip(axes[0], column_names, strict=True):
        axis.set_title(name, fontsize=8)
    return figure, axes


def reconstructions(model: Model, params: Params, data: Dataset) -> Figure:
    """One test image of each class above its reconstruction by the model."""
    classes, rows = _one_of_each_class(data)
    images = data.test_images[rows]
    probs = np.asarray(jax.jit(model.reconstruct)(params, _pixels(images)))
    pictures = np.stack([images / 255, probs.reshape(images.shape)])
    figure, axes = _grid(pictures, [data.class_names[k] for k in classes])
    axes[0, 0].set_ylabel("test image", fontsize=8)
    axes[1, 0].set_ylabel("reconstruction", fontsize=8)
    return figure


def analogies(model: JointModel, params: Params, data: Dataset) -> Figure:
    """A test image of each class, and its style in every class: one row an image."""
    classes, rows = _one_of_each_class(data)
    images = data.test_images[rows]
    styles = jax.jit(model.features)(params, _pixels(images))
    probs = np.asarray(jax.jit(model.decode_classes)(params, styles))[:, :COLUMNS]
    pictures = probs.reshape(*probs.shape[:2], *images.shape[1:])
    pictures = np.concatenate([images[:, None] / 255, pictures], axis=1)
    figure, axes = _grid(pictures, ["test image", *data.class_names[:COLUMNS]])
    for axis, k in zip(axes[:, 0], classes, strict=True):
        axis.set_ylabel(data.class_names[k], fontsize=8)
    return figure


def samples(model: JointModel, params: Params, data: Dataset) -> Figure:
    """Styles drawn from p(z) in every class: one row a style."""
    styles = jax.random.normal(jax.random.key(0), [STYLES, model.latent_dim])
    probs = np.asarray(jax.jit(model.decode_classes)(params, styles))[:, :COLUMNS]
    pictures = probs.reshape(*probs.shape[:2], *data.test_images.shape[1:])
    figure, axes = _grid(pictures, data.class_names[:COLUMNS])
    for number, axis in enumerate(axes[:, 0], start=1):
        axis.set_ylabel(f"style {number}", fontsize=8)
    return figure


def latent_space(features: np.ndarray, data: Dataset) -> Figure:
    """Test images in the plane of the first two principal components, by class."""
    features = features[:SCATTER_IMAGES] - features.mean(axis=0)
    if features.shape[1] == 1:  # a second axis of zeros
        features = np.pad(features, [(0, 0), (0, 1)])
    _, scale, axes = np.linalg.svd(features, full_matrices=False)
    plane = features @ axes[:2].T
    share = np.sum(scale[:2] ** 2) / (np.sum(scale**2) + 1e-30)
    figure = Figure(figsize=(7, 5.2), dpi=150, layout="constrained")
    axis = figure.subplots()
    colors = matplotlib.colormaps["tab10"]
    for k, name in enumerate(data.class_names):
        mine = plane[data.test_labels[: len(plane)] == k]
        axis.scatter(
            mine[:, 0], mine[:, 1], s=4, alpha=0.6, color=colors(k % 10), label=name
        )
    axis.set(
        xlabel="first principal component of the posterior means",
        ylabel=f"second ({100 * share:.0f} % of the variance together)",
    )
    figure.legend(loc="outside right upper", markerscale=3, frameon=False, fontsize=8)
    return figure


def trust(probs: np.ndarray, labels: np.ndarray) -> Figure:
    """How right the classifier is where it is sure, and on the images it is surest of.

    Args:
      probs: Of the classes, float [M, K].
      labels: int [M].
    """
    figure = Figure(figsize=(8, 3.6), dpi=150, layout="constrained")
    left, right = figure.subplots(1, 2)
    counts, said, was = confidence.reliability(probs, labels)
    some = counts > 0
    left.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    sizes = 8 + 150 * counts[some] / counts.max()
    left.scatter(said[some], was[some], s=sizes, alpha=0.8)
    left.set(xlabel="probability of the likeliest class", ylabel="accuracy")
    left.set_title(
        f"expected calibration error {confidence.calibration_error(probs, labels):.3f}",
        fontsize=9,
    )
    accuracy = confidence.accuracy_of_surest(probs, labels)
    share = np.arange(1, len(accuracy) + 1) / len(accuracy)
    late = share > 0.02  # means over a few images jump about
    right.plot(100 * share[late], 100 * accuracy[late])
    right.set(
        xlabel="% of the test images answered, surest first",
        ylabel="accuracy on them, %",
    )
    right.set_title("accuracy with abstention", fontsize=9)
    return figure
