"""`run_experiment`: the one place where data, model, training and classifier meet."""

import platform
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from importlib import metadata
from pathlib import Path
from types import ModuleType

import jax
from ml_collections import ConfigDict

from ssl_vae import config as recipes
from ssl_vae import epochs, features_first, joint, processes, self_training
from ssl_vae.clock import Clock
from ssl_vae.errors import InputError, RunError, Stopped
from ssl_vae.job import Job
from ssl_vae.loop import Diverged
from ssl_vae.plan import Plan, make_plan
from ssl_vae.results import Results
from ssl_vae.stage import Stage
from ssl_vae.workdir import FORMAT_VERSION

__all__ = ["Diverged", "Stopped", "carry_out", "run_experiment"]

PACKAGES = ["jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "scikit-learn"]


def run_experiment(
    config: ConfigDict | int | Sequence[int] | None = None,
    workdir: str | Path | None = None,
    *,
    data_dir: str | Path | None = None,
    command: str = "run_experiment",
    stop: Callable[[], bool] = lambda: False,
) -> Results:
    """Trains a recipe's model on all training images and the labels of a few.

    M1 is trained once, without labels, and an SVM on its features for every choice of
    the labeled images, and what the recipe adds to each SVM. M2 and M1+M2 are trained
    for every such choice. The same call again continues a run that was
    stopped, and returns the numbers of a finished one without training.

    Args:
      config: A recipe; or one or several numbers of labels for the default recipe;
        None is the default recipe as it is.
      workdir: Where the run goes; by default
        `checkpoints/<recipe>-<dataset>-seed<seed>`.
      data_dir: Where the data lies, see `datasets.load`.
      command: How the run was started, for results.json.
      stop: Asked about once a second in training, and before each SVM, there from
        several threads; True saves the state and stops.

    Returns:
      The content of results.json.

    Raises:
      InputError: for anything that the caller can mend; before any long work.
      Stopped: after `stop` said so.
      RunError: when the run cannot go on: the training came to nothing (`Diverged`), a
        file is damaged or cannot be written.
    """
    clock = Clock()
    with clock.part("data"):
        plan = make_plan(config, workdir, data_dir)
    if plan.finished:
        return plan.finished
    return carry_out(plan, clock=clock, command=command, stop=stop)


def carry_out(
    plan: Plan,
    *,
    clock: Clock,
    command: str,
    stop: Callable[[], bool],
    follow: Callable[[Stage], None] = lambda _: None,
) -> Results:
    """What a plan leaves to be done, see `run_experiment`.

    Processes that do it together each call this; one of them locks the workdir and
    writes, and all return its results. `follow` is told there of the folder of a
    training when its log begins and when it has grown.
    """
    team = processes.Team(stop)
    if team.size > 1 and plan.workdir.in_bucket:
        raise InputError(
            f"--workdir={plan.workdir.name}: the processes of a run need a folder that"
            " all of them share; mount the bucket, with gcsfuse, and give its folder"
        )
    with team.led(), plan.workdir.lock() if team.leads else nullcontext():
        team.check_agreement(plan.sha256)
        job = Job.begin(plan, clock=clock, stop=team.stop, follow=follow, team=team)
        results = _results(job, command)
        team.go()
    results = results or Results.load(plan.workdir.results)
    if results is None:
        raise RunError(
            f"{plan.workdir.results}: not to be seen from here; the processes of a run"
            " need one --workdir that all of them share"
        )
    return results


def _results(job: Job, command: str) -> Results | None:
    """The results of a job, on disk too; None in a process that follows another."""
    plan = job.plan
    recipe, run, before = plan.recipe, plan.workdir, plan.before
    # Of several processes one writes: the others may see what it has just written.
    if job.team.leads and Results.load(run.results) != before:
        raise InputError(
            f"{run.results}: another process has just changed it; give the same command"
            " again"
        )
    _check_batch_sizes(job)
    if job.team.leads:
        run.claim(recipe.to_dict(), plan.data.identity)
    results = before
    for outcome in _way(recipe).train_and_measure(job):
        from ssl_vae.report import save as report  # late: matplotlib takes a second

        newest = plan.is_newest(outcome.rows[-1].labels)
        if newest:
            report.save_exhibits(
                run.path,
                outcome.model,
                outcome.params,
                plan.data,
                outcome.test_features,
                outcome.test_probs,
            )
        # Without figures of their own, the rows are all of one VAE.
        stands = newest or not outcome.rows[-1].vae
        old_rows = results.results if results else []
        by_labels = {row.labels: row for row in [*old_rows, *outcome.rows]}
        results = Results(
            format_version=FORMAT_VERSION,
            recipe=recipe.recipe,
            model=recipe.model.name,
            seed=recipe.seed,
            dataset=plan.data.identity,
            vae=outcome.vae if stands or not results else results.vae,
            results=[by_labels[n] for n in sorted(by_labels)],
            seconds=job.clock.read(before.seconds if before else {}),
            device=f"{jax.default_backend()} x{jax.device_count()}",
            versions={name: metadata.version(name) for name in PACKAGES}
            | {"python": platform.python_version()},
            command=command,
            evaluate_on=recipe.evaluate_on,
        )
        report.save_documents(run, results)
        results.save(run.results)  # last: with it, this part of the run is finished
    return results if job.team.leads else None


def _check_batch_sizes(job: Job) -> None:
    """Refuses batches that the devices cannot share, of what is still to be trained."""
    plan, recipe = job.plan, job.plan.recipe
    if plan.trains_m1:
        group, m1 = ("m1.train", recipe.m1) if "m1" in recipe else ("train", recipe)
        epochs.check_batch_sizes([m1.train.batch_size], job.mesh, group=group)
    per_split = "train" if recipes.learns_labels(recipe) else "student"
    for num_labels in plan.missing if per_split in recipe else []:
        sizes = plan.batch_sizes(num_labels, per_split)
        epochs.check_batch_sizes(sizes, job.mesh, group=per_split)


def _way(recipe: ConfigDict) -> ModuleType:
    """The way to use the unlabeled images that a recipe is for."""
    if recipes.learns_labels(recipe):
        return joint
    return self_training if "student" in recipe else features_first
