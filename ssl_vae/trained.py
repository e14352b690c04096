"""A finished run as a classifier of new images.

classifier = ssl_vae.load("checkpoints/m1-fashion_mnist-seed42")
classifier.predict(images)
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from ssl_vae import checkpoint, evaluate
from ssl_vae import config as recipes
from ssl_vae.classifiers import confidence, traceable
from ssl_vae.classifiers.calibrated import CalibratedSVM
from ssl_vae.classifiers.smoothed import SmoothedSVM
from ssl_vae.errors import InputError, RunError, in_a_line
from ssl_vae.models import M1, M1M2, M2, Params, Student
from ssl_vae.processes import check_devices
from ssl_vae.results import Results, Row
from ssl_vae.stage import Stage
from ssl_vae.workdir import Workdir, read_json

REMEDY = "; remove what is damaged, and the command of that run makes it anew"
AT_A_TIME = 1024  # images
OfPixels = Callable[[np.ndarray], np.ndarray]  # [N, H * W * C] -> [N, ...]
Traceable = Callable[[jax.Array], jax.Array]
Parts = tuple[OfPixels, OfPixels, Traceable, Params]  # as in TrainedClassifier


@dataclass(frozen=True)
class TrainedClassifier:
    """The classifier of a run's most labels, for images like those it was trained on.

    Attributes:
      class_names: One a class.
      image_shape: (H, W, C) of the images it takes.
      num_labels: How many labels it learned from.
      log_probs: Log probabilities of the classes, [N, K], of pixels in [0, 1], float32
        [N, H * W * C].
      encode: Features, float32 [N, latent], of such pixels: means of q(z|x).
      traceable: `log_probs` in float32, as a function that JAX can trace.
      weights: Arrays of all its models, a tree by name.
    """

    class_names: tuple[str, ...]
    image_shape: tuple[int, ...]
    num_labels: int
    log_probs: OfPixels
    encode: OfPixels
    traceable: Traceable
    weights: Params

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Names of the likeliest classes, str [N]; images as in `predict_proba`."""
        return np.array(self.class_names)[self.predict_proba(images).argmax(axis=1)]

    def predict_proba(self, images: np.ndarray) -> np.ndarray:
        """Probabilities of the classes, float64 [N, K].

        Args:
          images: uint8, 0 to 255, or floats in [0, 1]; [N, H, W, C], or [N, H, W] of
            gray images.

        Raises:
          InputError: for images of another shape or range, or none.
        """
        return np.exp(self.predict_log_proba(images))

    def predict_log_proba(self, images: np.ndarray) -> np.ndarray:
        """Their logs, which also tell probabilities near 1 apart."""
        return self.log_probs(self._pixels(np.asarray(images)))

    def features(self, images: np.ndarray) -> np.ndarray:
        """Features of images as in `predict_proba`, float32 [N, latent]."""
        return self.encode(self._pixels(np.asarray(images)))

    def _pixels(self, images: np.ndarray) -> np.ndarray:
        """Images as float32 in [0, 1], [N, H * W * C], after checking them."""
        shape = images.shape[1:] if images.ndim == 4 else (*images.shape[1:], 1)
        if images.ndim not in (3, 4) or shape != self.image_shape or not len(images):
            raise InputError(
                f"images of shape {images.shape}: this classifier takes [N,"
                f" {', '.join(map(str, self.image_shape))}]"
            )
        if images.dtype == np.uint8:
            images = images / np.float32(255)
        elif not np.issubdtype(images.dtype, np.floating):
            raise InputError(f"images of {images.dtype}: must be uint8, or floats")
        # Also false for NaN.
        elif not (images.min() >= 0 and images.max() <= 1):
            raise InputError("images of floats must lie in [0, 1]; 0 to 255 as uint8")
        return images.reshape(len(images), -1).astype(np.float32, copy=False)


def load(workdir: str | Path) -> TrainedClassifier:
    """The classifier that a finished run has kept.

    Raises:
      InputError: where there is no finished run of this version.
    """
    run = Workdir(workdir)
    results = Results.of_finished_run(workdir)
    recipe, row = run.recipe(), results.results[-1]
    shape = tuple(results.dataset["image_shape"])
    names = tuple(results.dataset["class_names"])
    trained_on = read_json(run.config)["dataset"]
    if shape != tuple(trained_on["image_shape"]):
        raise InputError(f"{run.results}: image_shape is not that of {run.config}")
    if len(names) != len(trained_on["class_names"]):
        raise InputError(
            f"{run.results}: {len(names)} class_names, and the classifier tells"
            f" {len(trained_on['class_names'])} classes"
        )
    check_devices()
    load_one = _load_joint if recipes.learns_labels(recipe) else _load_svm
    at_labels = recipes.at(recipe, row.labels)
    try:
        parts = load_one(run, at_labels, row, shape, len(names))
    except (OSError, ValueError, LookupError, TypeError, RunError) as error:
        remedy = "" if isinstance(error, RunError) else REMEDY
        raise InputError(
            f"--workdir={workdir}: not a whole run ({in_a_line(error)}){remedy}"
        ) from None
    return TrainedClassifier(names, shape, row.labels, *parts)


def _load_svm(
    run: Workdir, recipe: ConfigDict, row: Row, shape: tuple[int, ...], num_classes: int
) -> Parts:
    """M1's features and an SVM; and, where the recipe has one, the SVM's student."""
    m1 = M1(shape, **recipes.model_fields(recipe.model))
    num_seeds = recipes.value(recipe, "num_seeds")
    if num_seeds == 1:
        m1_params = _weights(run.stage(), m1.init)
    else:
        m1_params = _first_weights(run.stage(), num_seeds, m1.init)
    encode = _mapped(m1.features, m1_params)
    if "graph" in recipe:
        return _load_smoothed(run, recipe, row, m1, m1_params, encode)
    classifier = CalibratedSVM.load(run.path, num_labels=row.labels)
    arrays = traceable.arrays_of(classifier)
    weights: Params = {"m1": m1_params, "svm": arrays}

    def of_svm(pixels: np.ndarray) -> np.ndarray:
        return classifier.log_probs(encode(pixels))

    def of_arrays(pixels: jax.Array) -> jax.Array:
        return traceable.log_probs(arrays, m1.features(m1_params, pixels))

    if "student" not in recipe:
        return of_svm, encode, of_arrays, weights
    student = Student(shape, num_classes, num_steps=1)
    if row.protocol == "cross_validation":
        params = _first_weights(run.stage_of_whole(row.labels), 1, student.init)
    else:
        params = _first_of_splits(run, row.labels, student.init)
    of_student = _mapped(student.class_logits, params)

    def of_both(pixels: np.ndarray) -> np.ndarray:
        return confidence.together(of_svm(pixels), of_student(pixels))

    def both_traced(pixels: jax.Array) -> jax.Array:
        logits = student.class_logits(params, pixels)
        return traceable.together(of_arrays(pixels), logits)

    return of_both, encode, both_traced, weights | {"student": params}


def _load_smoothed(
    run: Workdir,
    recipe: ConfigDict,
    row: Row,
    m1: M1,
    m1_params: Params,
    encode: OfPixels,
) -> Parts:
    """M1's features and an SVM that is smoothed over the graph of its images."""
    classifier = SmoothedSVM.load(
        run.path,
        run.graph(row.labels),
        num_labels=row.labels,
        num_neighbors=recipe.graph.num_neighbors,
        strength=recipe.graph.strength,
    )
    arrays = traceable.arrays_of(classifier.svm)
    graph = {"vertices": classifier.neighbors.vertices, "values": classifier.values}

    def traced(pixels: jax.Array) -> jax.Array:
        features = m1.features(m1_params, pixels)
        log_probs = traceable.log_probs(arrays, features)
        return traceable.smoothed(
            log_probs,
            features,
            graph,
            num_neighbors=classifier.neighbors.num,
            strength=classifier.strength,
        )

    weights: Params = {"m1": m1_params, "svm": arrays, "graph": graph}
    return lambda pixels: classifier.log_probs(encode(pixels)), encode, traced, weights


def _load_joint(
    run: Workdir, recipe: ConfigDict, row: Row, shape: tuple[int, ...], num_classes: int
) -> Parts:
    """The classifier q(y|x) of M2 or of M1+M2; features are M2's style, or M1's."""
    m2 = partial(
        M2,
        num_classes=num_classes,
        labeled_fraction=0.0,  # tells of training alone
        **recipes.model_fields(recipe.model),
    )
    if "m1" not in recipe:
        model = m2(pixels=math.prod(shape))
        params = _first_of_splits(run, row.labels, model.init)
        class_logits = model.class_logits
        encode = _mapped(model.features, params)
        weights: Params = {"m2": params}
    else:
        m1 = M1(shape, **recipes.model_fields(recipe.m1.model))
        m1_params = _weights(run.stage("m1"), m1.init)
        kept = np.asarray(row.vae[0]["kept_units"])
        both = M1M2(m1, m1_params, kept, m2(pixels=len(kept), gaussian=True))
        params = _first_of_splits(run, row.labels, both.init)
        encode = _mapped(m1.features, m1_params)
        weights = {"m1": m1_params, "kept_units": kept, "m2": params}

        def class_logits(params: Params, x: jax.Array) -> jax.Array:
            return both.class_logits(params, both.code(x))

    logits = _mapped(class_logits, params)

    def traced(pixels: jax.Array) -> jax.Array:
        return jax.nn.log_softmax(class_logits(params, pixels))

    return lambda x: confidence.log_softmax(logits(x)), encode, traced, weights


def _mapped(function: Callable[..., jax.Array], params: Params) -> OfPixels:
    """`function(params, pixels)` of any number of images, as NumPy arrays.

    It is given images of 0 up to a power of two: whatever the numbers of images from
    call to call, few of them are compiled.
    """

    def of_some(pixels: np.ndarray) -> np.ndarray:
        filler = (1 << (len(pixels) - 1).bit_length()) - len(pixels)
        filled = np.pad(pixels, [(0, filler), (0, 0)])
        return np.asarray(evaluate.map_images(function, params, filled))[: len(pixels)]

    def of_all(pixels: np.ndarray) -> np.ndarray:
        starts = range(0, len(pixels), AT_A_TIME)
        return np.concatenate([of_some(pixels[i : i + AT_A_TIME]) for i in starts])

    return of_all


def _weights(stage: Stage, init: Callable[[jax.Array], Params]) -> Params:
    """Final weights of a stage, shaped like fresh ones."""
    return checkpoint.load_weights(stage.weights, init(jax.random.key(0)))


def _first_of_splits(
    run: Workdir, num_labels: int, init: Callable[[jax.Array], Params]
) -> Params:
    """Final weights of the first of the label splits that were trained together."""
    splits = run.groups_of_splits(num_labels, 1)[0]
    return _first_weights(run.stage_of_splits(num_labels, splits), len(splits), init)


def _first_weights(
    stage: Stage, num_runs: int, init: Callable[[jax.Array], Params]
) -> Params:
    """Final weights of the first of some runs that were trained together."""
    keys = jax.random.split(jax.random.key(0), num_runs)
    params = checkpoint.load_weights(stage.weights, jax.vmap(init)(keys))
    return jax.tree.map(lambda array: array[0], params)
