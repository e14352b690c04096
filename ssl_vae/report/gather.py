"""From a trained model to the arrays that its report is drawn from."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from ssl_vae.classifiers import confidence
from ssl_vae.datasets import Dataset
from ssl_vae.models import ACTIVE_VARIANCE, Model, Params
from ssl_vae.report.attempt import attempt
from ssl_vae.report.evidence import SIDE, Evidence

CLASSES = 10  # at most, where each has a picture
STYLES = 6
SAMPLES = (4, 10)  # rows and columns
MISTAKES = 24
UNITS = 10
DEVIATIONS = np.arange(-3.0, 4.0)
SCATTER_IMAGES = 5_000
CURVE_POINTS = 250

Arrays = dict[str, np.ndarray]


def gather(
    model: Model, params: Params, data: Dataset, features: np.ndarray, probs: np.ndarray
) -> Evidence:
    """All that a report shows of a model; a part that fails is named and left out.

    Args:
      model: The trained model.
      params: Its weights.
      data: Gives the images that it was measured on, their labels and class names.
      features: Its features of those images, float [M, latent].
      probs: Probabilities of their classes, float [M, K].
    """
    images, labels = data.test_images, data.test_labels
    evidence: Arrays = {"class_names": np.array(data.class_names, dtype=np.str_)}
    parts: dict[str, Callable[[], Arrays]] = {
        "calibration": partial(_calibration, probs, labels),
        "mistakes": partial(_mistakes, probs, images, labels),
        "latent space": partial(_plane, features, labels),
        "active units": partial(_units, features),
        "reconstructions": partial(_reconstructions, model, params, images, labels),
        "samples": partial(_samples, model, params, images.shape[1:]),
        "traversals": partial(
            _traversals, model, params, features, images.shape[1:], labels
        ),
    }
    for what, part in parts.items():
        with attempt(what):
            evidence |= part()
    return evidence


def _calibration(probs: np.ndarray, labels: np.ndarray) -> Arrays:
    num_classes = probs.shape[1]
    cells = labels.astype(np.int64) * num_classes + probs.argmax(axis=1)
    counts = np.bincount(cells, minlength=num_classes**2)
    accuracy = confidence.accuracy_of_surest(probs, labels)
    ends = np.linspace(0, len(labels), CURVE_POINTS + 1)[1:].round().astype(int)
    ends = np.unique(np.maximum(ends, 1))
    return {
        "confusion": counts.reshape(num_classes, num_classes).astype(np.int32),
        "reliability": np.array(confidence.reliability(probs, labels), np.float32),
        "surest": np.array([ends / len(labels), accuracy[ends - 1]], np.float32),
    }


def _mistakes(probs: np.ndarray, images: np.ndarray, labels: np.ndarray) -> Arrays:
    said = probs.argmax(axis=1)
    wrong = np.flatnonzero(said != labels)
    first = wrong[np.argsort(-probs[wrong, said[wrong]], kind="stable")[:MISTAKES]]
    classes = np.stack([labels[first], said[first]], axis=1)
    return {
        "mistakes": _small(images[first]),
        "mistakes_classes": classes.astype(np.int32),
        "mistakes_probs": np.take_along_axis(probs[first], classes, 1).astype(
            np.float32
        ),
    }


def _plane(features: np.ndarray, labels: np.ndarray) -> Arrays:
    some = features[:SCATTER_IMAGES]
    centered = some - some.mean(axis=0)
    if centered.shape[1] == 1:  # a second axis of zeros
        centered = np.pad(centered, [(0, 0), (0, 1)])
    _, scale, axes = np.linalg.svd(centered, full_matrices=False)
    share = np.sum(scale[:2] ** 2) / (np.sum(scale**2) + 1e-30)
    return {
        "plane": (centered @ axes[:2].T).astype(np.float32),
        "plane_labels": labels[:SCATTER_IMAGES].astype(np.int32),
        "plane_share": np.array(share, np.float32),
    }


def _units(features: np.ndarray) -> Arrays:
    return {
        "variances": np.var(features, axis=0).astype(np.float32),
        "active_variance": np.array(ACTIVE_VARIANCE, np.float32),
    }


def _reconstructions(
    model: Model, params: Params, images: np.ndarray, labels: np.ndarray
) -> Arrays:
    """One image of each class, and what the model makes of it."""
    classes = np.unique(labels)[:CLASSES]  # few images may lack some
    rows = np.array([np.argmax(labels == k) for k in classes])
    shape, pixels = images.shape[1:], images[rows].reshape(len(rows), -1)
    x = jnp.asarray(pixels, jnp.float32) / 255
    arrays = {
        "originals": _small(images[rows]),
        "originals_classes": classes.astype(np.int32),
        "reconstructions": _pictures(jax.jit(model.reconstruct)(params, x), shape),
    }
    if hasattr(model, "decode_classes"):
        styles = jax.jit(model.features)(params, x)
        every_class = jax.jit(model.decode_classes)(params, styles)[:, :CLASSES]
        arrays["analogies"] = _pictures(every_class, shape)
    return arrays


def _samples(model: Model, params: Params, shape: tuple[int, ...]) -> Arrays:
    """Images of latent variables that are drawn from the prior."""
    if hasattr(model, "decode_classes"):
        z = jax.random.normal(jax.random.key(0), [STYLES, model.latent_dim])
        every_class = jax.jit(model.decode_classes)(params, z)[:, :CLASSES]
        return {"styles": _pictures(every_class, shape)}
    z = jax.random.normal(jax.random.key(0), [math.prod(SAMPLES), model.latent_dim])
    pictures = _pictures(jax.jit(partial(_decode, model))(params, z), shape)
    return {"samples": pictures.reshape(*SAMPLES, *pictures.shape[1:])}


def _traversals(
    model: Model,
    params: Params,
    features: np.ndarray,
    shape: tuple[int, ...],
    labels: np.ndarray,
) -> Arrays:
    """What each of the most active units does to the first of the originals.

    The mean of all features would be an image of none of the classes.
    """
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    units = np.argsort(-deviation, kind="stable")[:UNITS]
    start, row = int(labels.min()), int(np.argmin(labels))
    z = np.tile(features[row], [len(units), len(DEVIATIONS), 1])
    for of_unit, unit in zip(z, units, strict=True):
        of_unit[:, unit] = mean[unit] + deviation[unit] * DEVIATIONS
    decode = jax.jit(partial(_decode, model, k=start))
    flat = jnp.asarray(z.reshape(-1, len(mean)), jnp.float32)
    pictures = _pictures(decode(params, flat), shape)
    grid = pictures.reshape(len(units), len(DEVIATIONS), *pictures.shape[1:])
    return {"traversals": grid, "traversed": units.astype(np.int32)}


def _decode(model: Model, params: Params, z: Any, *, k: int = 0) -> jax.Array:
    """Pixels in [0, 1] of z, [n, pixels]; of class k where there are classes."""
    if hasattr(model, "decode_classes"):
        return model.decode_classes(params, z)[:, k]
    return jax.nn.sigmoid(model.decode(params, z))


def _pictures(pixels: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Pixels in [0, 1], [..., pixels] -> small uint8 images [..., H, W, C]."""
    values = np.asarray(pixels)
    images = np.clip(np.round(255 * values), 0, 255).astype(np.uint8)
    small = _small(images.reshape(-1, *shape))
    return small.reshape(*values.shape[:-1], *small.shape[1:])


def _small(images: np.ndarray) -> np.ndarray:
    """uint8 [n, H, W, C] with no side above SIDE: a report is to stay a light file."""
    height, width = images.shape[1:3]
    if max(height, width) <= SIDE or not len(images):
        return images
    scale = SIDE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    channels = np.moveaxis(images, -1, 1)
    small = [
        [np.asarray(Image.fromarray(c).resize(size, Image.Resampling.BOX)) for c in i]
        for i in channels
    ]
    return np.moveaxis(np.array(small, np.uint8), 1, -1)
