"""The other way to use unlabeled images: one model of images and classes, M2 or M1+M2.

Its training depends on the labels, so there is one for every number of labels and every
label split; the splits of one number are trained side by side.
"""

import logging
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from ssl_vae import config as recipes
from ssl_vae import evaluate
from ssl_vae.errors import Stopped
from ssl_vae.extractor import trained_m1
from ssl_vae.job import Job, Keys, Outcome
from ssl_vae.loop import Diverged, Training, trained_params
from ssl_vae.models import M1, M1M2, M2, JointModel, Params, active_units
from ssl_vae.placement import Placed, labeled_examples, placed_like
from ssl_vae.results import Row
from ssl_vae.splits import Split

logger = logging.getLogger("ssl_vae")

STEPS_PER_SCAN = 20  # fewer than for M1: a step is several splits' and all classes'


class First(NamedTuple):
    """The trained M1 that M1+M2 stands on."""

    m1: M1
    params: Params
    kept: np.ndarray  # indices of the units of its latent variable that M2 is given


class Measured(NamedTuple):
    """One trained model, its figures for results.json, and what it says of the test."""

    params: Params
    vae: dict[str, Any]
    test_features: np.ndarray
    test_logits: np.ndarray  # [M, K]


class Trial(NamedTuple):
    """A model at one number of labels."""

    job: Job
    num_labels: int
    recipe: ConfigDict  # as it is for that number
    model: JointModel
    train_inputs: Placed  # all training images, or their code, see `M1M2.code`
    test_inputs: Any

    def split(self, split_seed: int) -> Split:
        """Which images keep their label, and which the model is measured on."""
        return self.job.plan.splits(self.num_labels).split(split_seed)

    def labeled_rows(self, split_seed: int) -> np.ndarray:
        """Indices of the training images that keep their label in a split."""
        return self.split(split_seed).labeled

    def unlabeled_rows(self, split_seed: int) -> np.ndarray:
        """Indices of the others."""
        every = np.arange(len(self.job.plan.data.train_labels))
        return np.setdiff1d(every, self.labeled_rows(split_seed))


def train_and_measure(job: Job) -> Iterator[Outcome]:
    """Trains and measures the missing models, one number of labels after the other.

    All numbers of labels share a split's keys, so that a curve over them is smooth.
    Only the process that leads measures.
    """
    keys = Keys.of_seeds(job.plan.seeds)
    first, train_inputs, test_inputs = None, job.train_images, job.test_images
    if "m1" in job.plan.recipe:
        first, train_inputs, test_inputs = _first(job, keys)
    for num_labels in job.plan.missing:
        trial = _trial(job, num_labels, first, train_inputs, test_inputs)
        yield from _outcome(trial, keys.rest)


def _first(job: Job, keys: Keys) -> tuple[First, Placed, Any]:
    """M1, trained as a part of this run or taken from another, and what M2 is given.

    That is mean and log variance of the kept units of z1, of training and test images.
    """
    plan, group = job.plan, job.plan.recipe.m1
    stage = plan.workdir.stage("m1")
    m1, params = trained_m1(job, stage, group.model, group.train, keys, title="M1")
    with job.clock.part("features"):
        code = job.train_images.map(m1.encode, params)
        of_test = evaluate.map_images(m1.encode, params, job.test_images)
    active = np.zeros(m1.latent_dim, bool)
    active[active_units(np.asarray(code[0]))] = True
    kept = np.flatnonzero(job.team.share(active))
    logger.info("M1: %d of %d latent units kept", len(kept), m1.latent_dim)
    if not len(kept):
        raise Diverged(_nothing_kept(plan.recipe))
    code, of_test = jax.tree.map(lambda array: array[:, kept], (code, of_test))
    return First(m1, params, kept), placed_like(job.train_images, code), of_test


def _nothing_kept(recipe: ConfigDict) -> str:
    """What to do where M1 has kept nothing of the images."""
    no_unit = "no latent unit of M1 tells images apart"
    if recipe.m1_workdir:
        return f"{no_unit}; take another than --config.m1_workdir={recipe.m1_workdir}"
    return (
        f"{no_unit}; it needs a smaller --config.m1.model.kl_weight or a larger"
        " --config.m1.train.num_epochs, and then another --workdir"
    )


def _trial(
    job: Job,
    num_labels: int,
    first: First | None,
    train_inputs: Placed,
    test_inputs: Any,
) -> Trial:
    """The recipe and the model at a number of labels."""
    data = job.plan.data
    recipe = recipes.at(job.plan.recipe, num_labels)
    m2 = partial(  # of inputs of a length
        M2,
        num_classes=data.num_classes,
        labeled_fraction=job.plan.splits(num_labels).num_given / len(data.train_labels),
        warmup_steps=recipe.train.warmup_epochs * job.plan.steps_per_epoch(num_labels),
        **recipes.model_fields(recipe.model),
    )
    model: JointModel
    if first is None:
        model = m2(pixels=job.test_images.shape[1])
    else:
        model = M1M2(*first, m2(pixels=len(first.kept), gaussian=True))
    return Trial(job, num_labels, recipe, model, train_inputs, test_inputs)


def _outcome(trial: Trial, key: jax.Array) -> Iterator[Outcome]:
    """Trains and measures one model a label split; the first stands for all."""
    job, plan = trial.job, trial.job.plan
    every_split, each = [], []
    for splits in plan.workdir.groups_of_splits(
        trial.num_labels, len(plan.split_seeds(trial.num_labels))
    ):
        keys = jax.vmap(lambda seed: Keys.of(jax.random.fold_in(key, seed)))(
            jnp.asarray(splits)
        )
        params = _train(trial, splits, keys)
        for i, split_seed in enumerate(splits if job.team.leads else []):
            if job.stop():
                raise Stopped(f"in the figures for {trial.num_labels} labels")
            mine: Params = jax.tree.map(lambda array, i=i: array[i], params)
            every_split.append(trial.split(split_seed))
            each.append(_measure(trial, mine, split_seed, keys.rest[i]))
    if not job.team.leads:
        return
    with job.clock.part("classifier"):
        logits = [
            one.test_logits[split.measured]
            for one, split in zip(each, every_split, strict=True)
        ]
        judged = evaluate.judged(every_split, logits, plan.data.test_labels)
    row = Row.measured(
        trial.num_labels,
        plan.recipe.model.name,
        judged.accuracy,
        protocol=plan.splits(trial.num_labels).protocol,
        vae=[one.vae for one in each],
        calibration=judged.calibration,
    )
    params, vae, test_features, _ = each[0]
    yield Outcome([row], trial.model, params, vae, test_features, judged.probs)


def _train(trial: Trial, splits: range, keys: Keys) -> Params:
    """Trained parameters of the splits, with a leading axis; one key a split."""
    job, inputs = trial.job, trial.train_inputs
    unlabeled, labeled = (
        np.stack([rows(seed) for seed in splits])
        for rows in (trial.unlabeled_rows, trial.labeled_rows)
    )
    examples = [
        inputs.examples(unlabeled),
        labeled_examples(inputs, job.plan.data.train_labels, labeled),
    ]
    stage = job.plan.workdir.stage_of_splits(trial.num_labels, splits)
    training = Training(
        stage,
        trial.model,
        trial.recipe.train,
        examples,
        job.plan.batch_sizes(trial.num_labels),
        keys,
        title=f"{trial.num_labels} labels, {stage.which}",
        steps_per_scan=STEPS_PER_SCAN,
    )
    return trained_params(job, training)


def _measure(trial: Trial, params: Params, split_seed: int, key: jax.Array) -> Measured:
    job = trial.job
    with job.clock.part("features"):
        figures, features = evaluate.vae_figures(
            trial.model,
            params,
            job.test_images,
            key=key,
            num_samples=trial.recipe.importance_samples,
        )
        class_logits = trial.model.class_logits
        logits = evaluate.map_images(class_logits, params, trial.test_inputs)
        every = np.asarray(trial.train_inputs.map(class_logits, params))
        labels = job.plan.data.train_labels[trial.labeled_rows(split_seed)]
        use = evaluate.class_use(
            every[trial.unlabeled_rows(split_seed)],
            np.bincount(labels, minlength=trial.model.num_classes) / len(labels),
        )
    if use.collapsed:
        logger.warning(
            "collapsed: q(y|x) uses few classes, or hardly depends on the image, at %d"
            " labels, split %d (share of each class: %s); its accuracy is not a result;"
            " try a larger --config.model.alpha, or more epochs",
            trial.num_labels,
            split_seed,
            " ".join(f"{share:.2f}" for share in use.class_histogram),
        )
    figures["epochs"] = trial.recipe.train.num_epochs
    figures["steps"] = figures["epochs"] * job.plan.steps_per_epoch(trial.num_labels)
    if isinstance(trial.model, M1M2):
        figures["kept_units"] = trial.model.kept.tolist()
    return Measured(params, figures | use._asdict(), features, np.asarray(logits))
