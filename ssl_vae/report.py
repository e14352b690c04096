"""Pictures of a trained model, as PNG files in its workdir."""

from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from matplotlib.figure import Figure

from ssl_vae.datasets import Dataset
from ssl_vae.models.m1 import M1, Params

COLUMNS = 10
SCATTER_IMAGES = 5_000


def save_pictures(
    folder: Path, model: M1, params: Params, data: Dataset, test_features: np.ndarray
) -> None:
    """Writes reconstructions.png and latent_space.png.

    Args:
      folder: Where they go.
      model: The trained model.
      params: Its weights.
      data: Gives the test images, their labels and the names of the classes.
      test_features: Features of the test images, float [M, latent].
    """
    matplotlib.use("Agg")
    reconstructions(model, params, data).savefig(folder / "reconstructions.png")
    latent_space(test_features, data).savefig(folder / "latent_space.png")


def reconstructions(model: M1, params: Params, data: Dataset) -> Figure:
    """One test image of each class above its reconstruction from the posterior mean."""
    classes = np.unique(data.test_labels)[:COLUMNS]  # a small test set may lack some
    images = data.test_images[[np.argmax(data.test_labels == k) for k in classes]]
    x = jnp.asarray(images.reshape(len(images), -1), jnp.float32) / 255
    probs = jax.nn.sigmoid(model.decode(params, model.features(params, x)))
    rows = [images / 255, np.asarray(probs).reshape(images.shape)]
    figure = Figure(figsize=(1.0 * len(images), 2.4), dpi=150, layout="constrained")
    axes = figure.subplots(2, len(images), squeeze=False)
    for row, pictures in zip(axes, rows, strict=True):
        for axis, picture in zip(row, pictures, strict=True):
            axis.imshow(picture.squeeze(), cmap="gray", vmin=0, vmax=1)
            axis.set(xticks=[], yticks=[])
    for axis, k in zip(axes[0], classes, strict=True):
        axis.set_title(data.class_names[k], fontsize=8)
    axes[0, 0].set_ylabel("test image", fontsize=8)
    axes[1, 0].set_ylabel("reconstruction", fontsize=8)
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
