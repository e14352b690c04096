"""scikit-learn estimators: features of images without labels, and a classifier of few.

    from ssl_vae.estimators import SemiSupervisedVAEClassifier, VAEFeatures

    classifier = SemiSupervisedVAEClassifier(random_state=0).fit(images, y)
    classifier.predict(images)

Images are [n, H, W] or [n, H, W, C], or rows of numbers [n, features]. uint8 is divided
by 255. Numbers in [0, 1] are taken as they are; where some of those given to `fit` lie
outside, the lowest of all becomes 0 and the highest 1. What lies beyond that later is
clipped. They are trained on one device, and leave nothing on disk but what `save` does.
"""

import zipfile
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np
import skops.io
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.metrics import accuracy_score
from sklearn.utils import Tags, check_random_state, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, check_is_fitted, validate_data
from skops.io.exceptions import UntrustedTypesFoundException

from ssl_vae import fields, fitting, semisupervised
from ssl_vae.classifiers import confidence
from ssl_vae.errors import InputError
from ssl_vae.files import replacing
from ssl_vae.fitting import Schedule
from ssl_vae.inputs import (
    UNLABELED,
    PixelRange,
    checked_image_shape,
    encoded_labels,
    flattened,
    image_shape_of,
    is_labeled,
    shape_of_each,
)
from ssl_vae.models import M1
from ssl_vae.semisupervised import WAYS, Settings

MAX_BYTES = 4 * 2**30  # of a saved estimator, unpacked

# Parameters that are fields of a recipe have its ranges.
_FIELDS = {
    field.rsplit(".", 1)[-1]: check
    for recipe in ("m1", "m2")
    for field, check in fields.FIELDS[recipe].items()
}


class _VAEEstimator(BaseEstimator):
    """Images in, pixels out: what the estimators share."""

    def save(self, path: str | Path) -> None:
        """Writes the fitted estimator to a skops file, which holds data and no code."""
        check_is_fitted(self)
        with replacing(Path(path)) as partial:
            skops.io.dump(self, partial)

    def _parameters(self) -> dict[str, Any]:
        """All parameters, those that a recipe has too in plain types and checked."""
        values = self.get_params(deep=False)
        for name in values.keys() & _FIELDS.keys():
            ok, text = _FIELDS[name]
            values[name] = _plain(values[name])
            if not ok(values[name]):
                raise InputError(f"{name}={values[name]!r}: must be {text}")
        return values

    def _learned_pixels(self, X: Any, rows: np.ndarray) -> np.ndarray:
        """Pixels of the X of `fit`; keeps what is to be known of them later."""
        seen, given = image_shape_of(X), self.get_params()["image_shape"]
        self.input_shape_ = shape_of_each(X)
        self.image_shape_ = seen
        if given is not None:
            self.image_shape_ = checked_image_shape(given, rows.shape[1])
            flattened(X, self.image_shape_)  # the two have to agree
        range_ = PixelRange.of(rows)
        self.pixel_range_ = tuple(range_)
        return range_.pixels(rows)

    def _pixels(self, X: Any) -> np.ndarray:
        """Pixels in [0, 1], float32 [n, n_features_in_], of an X after `fit`."""
        check_is_fitted(self)
        rows = validate_data(self, flattened(X, self.image_shape_), reset=False)
        return PixelRange(*self.pixel_range_).pixels(rows)

    def _m1(self, parameters: dict[str, Any]) -> M1:
        """The model M1 of images as they were given to `fit`."""
        names = "latent_dim", "hidden", "kl_weight", "gradient_weight"
        gradient_weight = parameters["gradient_weight"]
        needs = f"gradient_weight={gradient_weight}" if gradient_weight else ""
        if parameters.get("model") == "best":
            needs = "model='best'"
        if needs and self.image_shape_ is None:
            raise InputError(
                f"{needs}: needs images [n, H, W] or [n, H, W, C]; for rows set"
                " image_shape=(H, W)"
            )
        shape = self.image_shape_ or (self.n_features_in_, 1, 1)
        return fitting.m1(shape, **{name: parameters[name] for name in names})

    def _key(self) -> jax.Array:
        state = check_random_state(self.get_params()["random_state"])
        return jax.random.key(state.randint(2**31 - 1))

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags


class VAEFeatures(ClassNamePrefixFeaturesOutMixin, TransformerMixin, _VAEEstimator):
    """Features of images, learned without labels: posterior means of a VAE.

    Parameters are the fields of a recipe with the same name. No y is needed.

    Attributes:
      n_features_in_: Numbers of an image.
      feature_names_in_: Their names, where X had names.
      image_shape_: (H, W, C), or None where X was rows of numbers.
      pixel_range_: What is taken for 0 and for 1.
      model_: Hyper-parameters and weights of the VAE.

    Args:
      latent_dim: Number of features.
      hidden: Widths of the encoder's hidden layers; the decoder mirrors them.
      kl_weight: Factor of the KL term in the loss; below 1 keeps more features active.
      gradient_weight: Above 0 the VAE also learns the oriented gradients of the images.
      num_epochs: Passes over the images; small sets need more of them than large ones.
      batch_size: Images a step; there may be fewer in all.
      learning_rate: Adam's at first; it falls to 0 along a cosine.
      image_shape: (H, W) or (H, W, C) of images that are given as rows; only
        `gradient_weight` needs it.
      random_state: An int for results that can be repeated, a RandomState or None.
    """

    def __init__(
        self,
        latent_dim: int = 50,
        *,
        hidden: tuple[int, ...] = (500, 500),
        kl_weight: float = 0.05,
        gradient_weight: float = 0.0,
        num_epochs: int = 40,
        batch_size: int = 100,
        learning_rate: float = 1e-3,
        image_shape: tuple[int, ...] | None = None,
        random_state: int | np.random.RandomState | None = None,
    ):
        self.latent_dim = latent_dim
        self.hidden = hidden
        self.kl_weight = kl_weight
        self.gradient_weight = gradient_weight
        self.num_epochs = num_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.image_shape = image_shape
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> Self:
        """Trains the VAE on images X; y is ignored.

        Raises:
          InputError: for parameters out of range or that do not fit X.
        """
        parameters = self._parameters()
        x = self._learned_pixels(X, validate_data(self, flattened(X)))
        self.model_ = semisupervised.train_m1(
            x, self._m1(parameters), _schedule(parameters), self._key()
        )
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Features of images X, float32 [n, latent_dim]."""
        return semisupervised.features(self.model_, self._pixels(X))

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Images that have the features X [n, latent_dim], shaped as `fit` had them.

        float32 in the range of the numbers given to `fit`; in [0, 1] after uint8.
        """
        check_is_fitted(self)
        z = check_array(X, dtype=np.float32)
        if z.shape[1] != self._n_features_out:
            raise InputError(
                f"X has {z.shape[1]} columns; latent_dim is {self._n_features_out}"
            )
        pixels = semisupervised.decoded(self.model_, z)
        restored = PixelRange(*self.pixel_range_).restored(pixels)
        return restored.reshape(len(z), *self.input_shape_)

    def score(self, X: Any, y: Any = None) -> float:
        """Mean ELBO of images X, nats per image; higher is better. y is ignored."""
        x = self._pixels(X)
        return float(fitting.elbos(*semisupervised.m1_of(self.model_), x).mean())

    @property
    def _n_features_out(self) -> int:
        return int(self.model_["m1"]["latent_dim"])

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []  # features are always float32
        return tags


class SemiSupervisedVAEClassifier(ClassifierMixin, _VAEEstimator):
    """A classifier that learns from all images and the labels of a few.

    An unlabeled image has y = -1; for classes with names, -1 in an array of objects, or
    the text "-1". None and "" are refused. All may be labeled. Where y has -1 and 1 and
    nothing else, both are classes, and a warning says so.

    Attributes:
      classes_: The classes, sorted, [K].
      transduction_: For each image given to `fit` its label, or the one predicted.
      n_features_in_: Numbers of an image.
      feature_names_in_: Their names, where X had names.
      image_shape_: (H, W, C), or None where X was rows of numbers.
      pixel_range_: What is taken for 0 and for 1.
      model_: What `model` found: hyper-parameters, weights, the SVM.

    Args:
      model: "m1", a VAE of all images, then an RBF SVM on its features of the labeled;
        "m1_graph", that, and what the SVM says is smoothed over the graph of the
        images, for classes that are as frequent among the labeled as among all; "m2",
        one generative model of images and classes; "m1_m2", that model of the latent
        variable of an M1; "best", "m1" and a convolutional network that learns from the
        SVM's guesses about all images, for images (not rows), and classes as those of
        "m1_graph". The recipes "m1_graph" and "best" also move the labeled images.
      latent_dim: Length of every latent variable.
      hidden: Widths of the hidden layers of every network.
      kl_weight: M1: factor of the KL term in the loss; below 1 keeps more units active.
      gradient_weight: M1: above 0 it also learns the images' oriented gradients.
      alpha: M2: weight of the classification loss.
      C: The SVM's penalty, where there is one; larger fits the labels harder.
      num_epochs: Passes over the images, in M2 over the unlabeled; small sets need
        more of them than large ones.
      batch_size: Images a step; in M2 half of them labeled.
      learning_rate: Adam's at first; it falls to 0 along a cosine.
      image_shape: (H, W) or (H, W, C) of images that are given as rows; only
        `gradient_weight` and "best" need it.
      random_state: An int for results that can be repeated, a RandomState or None.
    """

    def __init__(
        self,
        model: str = "m1",
        *,
        latent_dim: int = 50,
        hidden: tuple[int, ...] = (500, 500),
        kl_weight: float = 0.05,
        gradient_weight: float = 0.0,
        alpha: float = 1.0,
        C: float = 2.0,
        num_epochs: int = 40,
        batch_size: int = 100,
        learning_rate: float = 1e-3,
        image_shape: tuple[int, ...] | None = None,
        random_state: int | np.random.RandomState | None = None,
    ):
        self.model = model
        self.latent_dim = latent_dim
        self.hidden = hidden
        self.kl_weight = kl_weight
        self.gradient_weight = gradient_weight
        self.alpha = alpha
        self.C = C
        self.num_epochs = num_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.image_shape = image_shape
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Self:
        """Trains the model on images X and the labels among y.

        Raises:
          InputError: for fewer than two classes among the labels, and for parameters
            out of range or that do not fit X.
        """
        parameters = self._parameters()
        if self.model not in WAYS:
            raise InputError(f"model={self.model!r}: must be {' or '.join(WAYS)}")
        rows, y = validate_data(self, flattened(X), y)
        if y.dtype.kind == "f":
            check_classification_targets(y)
        classes, labels = encoded_labels(y)
        x = self._learned_pixels(X, rows)
        settings = Settings(
            self._m1(parameters),
            parameters["alpha"],
            parameters["C"],
            _schedule(parameters),
        )
        found = WAYS[self.model].fit(x, labels, settings, self._key())
        self.classes_, self.model_ = classes, {"name": self.model} | found
        self.transduction_ = classes[labels]
        unlabeled = labels < 0
        if unlabeled.any():
            likeliest = self._scores(x[unlabeled]).argmax(axis=1)
            self.transduction_[unlabeled] = classes[likeliest]
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest class of each of the images X, [n]."""
        scores = self._scores(self._pixels(X))
        return np.asarray(self.classes_[scores.argmax(axis=1)])

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of the classes, [n, K]; calibrated on the labels for "m1"."""
        return confidence.class_probs(self._scores(self._pixels(X)))

    def decision_function(self, X: Any) -> np.ndarray:
        """Log probabilities of the classes up to a constant an image, [n, K].

        For two classes the difference, [n], above 0 where the second is the likelier.
        """
        scores = self._scores(self._pixels(X))
        return scores[:, 1] - scores[:, 0] if scores.shape[1] == 2 else scores

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Accuracy on those of the images X that have a label, in [0, 1].

        Raises:
          InputError: where none has.
        """
        predicted, y = self.predict(X), column_or_1d(y)
        labeled = is_labeled(y) | (UNLABELED in self.classes_.tolist())
        if not labeled.any():
            raise InputError("y has no labels to score by: every y is -1")
        weight = None if sample_weight is None else np.asarray(sample_weight)[labeled]
        accuracy = accuracy_score(y[labeled], predicted[labeled], sample_weight=weight)
        return float(accuracy)

    def _scores(self, x: np.ndarray) -> np.ndarray:
        return WAYS[self.model_["name"]].scores(self.model_, x)


def load(path: str | Path) -> VAEFeatures | SemiSupervisedVAEClassifier:
    """The estimator that `save` wrote; runs no code that is in the file.

    Raises:
      InputError: for a file that cannot be read or holds anything else.
    """
    kinds = VAEFeatures, SemiSupervisedVAEClassifier
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > MAX_BYTES:
            raise InputError(f"{path}: unpacks to {size} bytes; refused")
        estimator = skops.io.load(path, trusted=list(kinds))
    except UntrustedTypesFoundException as error:
        raise InputError(f"{path}: holds what no estimator does: {error}") from None
    except InputError:
        raise
    except Exception as error:  # a damaged file fails in too many ways to list
        raise InputError(f"{path}: no saved estimator: {error}") from None
    if not isinstance(estimator, kinds):
        raise InputError(f"{path}: holds a {type(estimator).__name__}, no estimator")
    return estimator


def _schedule(parameters: dict[str, Any]) -> Schedule:
    return Schedule(**{name: parameters[name] for name in Schedule._fields})


def _plain(value: Any) -> Any:
    """NumPy's numbers as Python's, and lists as tuples."""
    if isinstance(value, list | tuple):
        return tuple(map(_plain, value))
    return value.item() if isinstance(value, np.generic) else value
