"""What other objectives than that of `m1_features` make of its VAE.

    python benchmarks/objectives.py --data_dir=DIR
    python benchmarks/objectives.py --data_dir=DIR --row="free bits 0.5"

Networks, epochs and learning rate are those of the recipe, held-out training images
stand in for the test images, and the SVM has C=2 and gamma="scale". All but the first
row know nothing of gradients unless they say so, and have KL weight 1. Features are the
posterior means; "hidden layer" are the activations of the last one of the encoder,
and "both" the two side by side.
"""

import argparse
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from shared import at_least, mean_and_deviation

from ssl_vae import config as recipes
from ssl_vae import datasets, distributions, fitting
from ssl_vae.checked import without_validation
from ssl_vae.classifiers.svm import fit_svm
from ssl_vae.datasets import Dataset
from ssl_vae.errors import InputError
from ssl_vae.labels import check_num_labels, choose_labeled
from ssl_vae.models import M1, active_units
from ssl_vae.networks import MLP
from ssl_vae.splits import usual_labels

LogProb = Callable[[jax.Array, jax.Array], jax.Array]  # logits and pixels -> [batch]

NARROW = 1e-2  # logits below it, either sign, have the continuous Bernoulli's limit


def floored_kl(mean: jax.Array, logvar: jax.Array, free_nats: float) -> jax.Array:
    """The KL term of free bits, a scalar in nats.

    The sum over units of max(free_nats, mean over images of the unit's KL): below
    `free_nats` a unit costs the same whatever it says.

    Args:
      mean: Of q(z|x), [batch, latent].
      logvar: Log variance of q(z|x), [batch, latent].
      free_nats: Of each unit, at least 0.

    Source: Kingma et al. 2016, arXiv:1606.04934, appendix C.8; each unit is a group.
    """
    of_units = distributions.gaussian_kl(mean[..., None], logvar[..., None])
    return jnp.sum(jnp.maximum(free_nats, jnp.mean(of_units, axis=0)))


def gaussian_of_best_variance(logits: jax.Array, x: jax.Array) -> jax.Array:
    """Log density of pixels under N(sigmoid(logits), var), [batch], nats.

    One variance for all pixels and images of the batch: the likeliest.

    Source: Rybkin et al. 2021, arXiv:2006.13202.
    """
    mean = jax.nn.sigmoid(logits)
    logvar = jnp.log(jnp.mean(jnp.square(x - mean)))
    return distributions.gaussian_log_prob(x, mean, jnp.full_like(x, logvar))


def continuous_bernoulli(logits: jax.Array, x: jax.Array) -> jax.Array:
    """Log density of pixels in [0, 1] under the continuous Bernoulli, [batch], nats.

    The Bernoulli's surrogate for gray pixels with what makes it integrate to 1, which
    is logit / tanh(logit / 2) a pixel.

    Source: Loaiza-Ganem and Cunningham 2019, arXiv:1907.06845.
    """
    near_0 = jnp.abs(logits) < NARROW
    safe = jnp.where(near_0, 1.0, logits)
    # To the second order log(2) + logit^2 / 12 where the quotient would be 0 / 0.
    limit = jnp.log(2.0) + jnp.square(logits) / 12
    log_norm = jnp.where(near_0, limit, jnp.log(safe / jnp.tanh(safe / 2)))
    return distributions.bernoulli_log_prob(logits, x) + jnp.sum(log_norm, axis=-1)


@dataclass(frozen=True)
class Variant(M1):
    """M1 with free bits or another density of the pixels; as it stands, M1.

    Attributes:
      free_nats: See `floored_kl`.
      log_prob: Of pixels [batch, pixels] given logits of that shape.
    """

    free_nats: float = 0.0
    log_prob: LogProb = distributions.bernoulli_log_prob

    def loss(
        self, params: dict, view: jax.Array, *, key: jax.Array, step: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """As `M1.loss`."""
        del step
        mean, logvar = self._posterior(params, view)
        z = distributions.gaussian_sample(key, mean, logvar)
        logits, pixels = self._view_logits(params, z), self.pixels
        kl = floored_kl(mean, logvar, self.free_nats)
        loss = self.kl_weight * kl
        loss -= jnp.mean(self.log_prob(logits[:, :pixels], view[:, :pixels]))
        of_gradients = distributions.bernoulli_log_prob(
            logits[:, pixels:], view[:, pixels:]
        )
        loss -= self.gradient_weight * jnp.mean(of_gradients)
        return loss, {"loss": loss, "kl": kl}


@dataclass(frozen=True)
class ImportanceWeighted(M1):
    """M1 with the bound of several draws of z, of the pixels alone.

    Attributes:
      num_samples: Draws an image.

    Source: Burda et al. 2016, arXiv:1509.00519, eq. 8.
    """

    num_samples: int = 5

    def loss(
        self, params: dict, view: jax.Array, *, key: jax.Array, step: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Minus the batch mean of the log of the mean weight p(x, z) / q(z|x), nats."""
        del step
        mean, logvar = self._posterior(params, view)
        draw = jax.vmap(distributions.gaussian_sample, in_axes=(0, None, None))
        z = draw(jax.random.split(key, self.num_samples), mean, logvar)
        log_weights = (  # [num_samples, batch]
            distributions.bernoulli_log_prob(self._view_logits(params, z), view[None])
            + distributions.standard_normal_log_prob(z)
            - distributions.gaussian_log_prob(z, mean[None], logvar[None])
        )
        bound = jax.nn.logsumexp(log_weights, axis=0) - jnp.log(self.num_samples)
        loss = -jnp.mean(bound)
        return loss, {"loss": loss}


PLAIN: dict[str, Any] = {"gradient_weight": 0.0, "kl_weight": 1.0}
GAUSSIAN = {"log_prob": gaussian_of_best_variance}
# What is trained, and what it changes in the recipe's model.
ROWS: dict[str, tuple[type[M1], dict[str, Any]]] = {
    "m1_features": (M1, {}),
    "KL weight 1": (M1, PLAIN),
    "free bits 0.5": (Variant, PLAIN | {"free_nats": 0.5}),
    "free bits 2": (Variant, PLAIN | {"free_nats": 2.0}),
    "Gaussian, learned variance": (Variant, PLAIN | GAUSSIAN),
    "continuous Bernoulli": (Variant, PLAIN | {"log_prob": continuous_bernoulli}),
    "importance-weighted, 5 draws": (ImportanceWeighted, PLAIN),
    "gradients, free bits 2": (Variant, {"kl_weight": 1.0, "free_nats": 2.0}),
}
WITH_HIDDEN = ("m1_features", "KL weight 1")  # rows whose hidden layer is tried too


def hidden_layer(model: M1, params: dict, x: jax.Array) -> jax.Array:
    """Activations of the encoder's last hidden layer, [batch, width], at least 0."""
    weights = {"params": params["encoder"]["MLP_0"]}
    return jnp.asarray(MLP(model.hidden).apply(weights, model.view(x)))


def pixels_of(images: np.ndarray) -> np.ndarray:
    """uint8 images as float32 in [0, 1], [N, pixels]."""
    return images.reshape(len(images), -1).astype(np.float32) / 255


def trained(model: M1, x: np.ndarray, seed: int = 42) -> dict:
    """Its parameters after the recipe's training on images x, [N, pixels]."""
    settings = recipes.load(recipes.recipe_path("m1_features")).train
    schedule = fitting.Schedule(
        settings.num_epochs, settings.batch_size, settings.learning_rate
    )
    images = fitting.ExampleSet(
        fitting.views(model, x), np.arange(len(x)), schedule.batch_size
    )
    return fitting.train_params(model, [images], schedule, key=jax.random.key(seed))


def over_splits(
    data: Dataset,
    num_labels: int,
    num_splits: int,
    accuracy: Callable[[np.ndarray], float],
) -> np.ndarray:
    """Accuracies, %, one a label split; each is of the labeled images' numbers [n]."""

    def of_split(split_seed: int) -> float:
        labels = data.train_labels
        return 100 * accuracy(choose_labeled(labels, num_labels, split_seed=split_seed))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return np.array(list(pool.map(of_split, range(num_splits))))


def accuracies(
    data: Dataset, train: np.ndarray, test: np.ndarray, num_labels: int, num_splits: int
) -> np.ndarray:
    """Of the SVM on features [N, dim] and [M, dim], %, one a label split."""

    def accuracy(chosen: np.ndarray) -> float:
        labels = data.train_labels[chosen]
        svm = fit_svm(train[chosen], labels, C=2.0, standardize=False)
        return float(svm.score(test, data.test_labels))

    return over_splits(data, num_labels, num_splits, accuracy)


def print_row(data: Dataset, name: str, num_splits: int) -> None:
    """Trains a row's model, and prints what each kind of its features gives."""
    kind, changes = ROWS[name]
    fields = recipes.load(recipes.recipe_path("m1_features")).model
    model = kind(data.image_shape, **(recipes.model_fields(fields) | changes))
    train, test = pixels_of(data.train_images), pixels_of(data.test_images)
    params = trained(model, train)
    means = [fitting.map_rows(model.features, params, x) for x in (train, test)]
    elbo = "-"  # of another density, that of Bernoulli pixels is no measure
    if changes.get("log_prob") is None:
        elbo = f"{fitting.elbos(model, params, test).mean():.1f}"
    features = {name: means}
    if name in WITH_HIDDEN:
        of_hidden = partial(hidden_layer, model)
        hidden = [fitting.map_rows(of_hidden, params, x) for x in (train, test)]
        features["  hidden layer"] = hidden
        features["  both"] = [
            np.concatenate(each, axis=1) for each in zip(means, hidden, strict=True)
        ]
    units = len(active_units(means[1]))
    for kind_name, (of_train, of_test) in features.items():
        cells = []
        for num_labels in usual_labels(data):
            scores = accuracies(data, of_train, of_test, num_labels, num_splits)
            cells.append(mean_and_deviation(scores))
        row = "".join(f"{cell:>15}" for cell in cells)
        print(f"{kind_name:30}{units:4d}{elbo:>8}{row}", flush=True)


def asked(
    doc: str, rows: Mapping[str, Any], *, num_splits: int
) -> tuple[Dataset, list[str], int]:
    """What the flags ask for: the images, names of rows and the number of splits.

    Args:
      doc: Of the program; `--help` says its first line.
      rows: That can be asked for; without `--row` all.
      num_splits: Without `--num_splits`.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--data_dir")
    parser.add_argument("--num_splits", type=at_least(2), default=num_splits)
    parser.add_argument(
        "--row", action="append", choices=rows, metavar="NAME", help="may be repeated"
    )
    flags = parser.parse_args()
    try:
        data = without_validation(datasets.load("fashion_mnist", flags.data_dir))
        for num_labels in usual_labels(data):
            check_num_labels(data.train_labels, num_labels)
    except InputError as error:
        parser.error(str(error))
    return data, flags.row or list(rows), flags.num_splits


def main() -> None:
    """Prints the table, a row as soon as it is there."""
    data, names, num_splits = asked(__doc__, ROWS, num_splits=10)
    print(f"validation accuracy %, {num_splits} label splits; ELBO of the pixels, nats")
    head = "".join(f"{count:>15}" for count in usual_labels(data))
    print(f"{'':30}{'units':>4}{'ELBO':>7}{head}", flush=True)
    for name in names:
        print_row(data, name, num_splits)


if __name__ == "__main__":
    main()
