"""What each part of the recipe `m1_features` gives: the recipe with one thing changed.

    python benchmarks/ablation.py --data_dir=DIR

Held-out training images stand in for the test images. Every row is a run with a workdir
of its own, so the same command again goes on where it was stopped.
"""

import argparse
from pathlib import Path

from shared import mean_and_deviation

from ssl_vae import config as recipes
from ssl_vae.errors import InputError
from ssl_vae.experiment import run_experiment
from ssl_vae.results import Results

CHANGES: dict[str, dict[str, object]] = {
    "m1_features": {},
    "no gradients": {"model.gradient_weight": 0.0},
    "no gradients, KL weight 0.02": {
        "model.gradient_weight": 0.0,
        "model.kl_weight": 0.02,
    },
    "no gradients, KL weight 1": {"model.gradient_weight": 0.0, "model.kl_weight": 1.0},
    "no gradients, KL weight 1, warm-up": {
        "model.gradient_weight": 0.0,
        "model.kl_weight": 1.0,
        "train.kl_warmup": 0.5,
    },
    "gradient weight 3": {"model.gradient_weight": 3.0},
    "gradient weight 30": {"model.gradient_weight": 30.0},
    "KL weight 1": {"model.kl_weight": 1.0},
    "KL weight 0.2": {"model.kl_weight": 0.2},
    "latent dimension 10": {"model.latent_dim": 10},
    "latent dimension 100": {"model.latent_dim": 100},
}


def run(change: dict[str, object], workdir: Path, data_dir: str | None) -> Results:
    """The recipe with some fields changed, C and gamma as they stand in it."""
    config = recipes.load(recipes.recipe_path("m1_features"))
    config.update_from_flattened_dict(
        {
            "evaluate_on": "validation",
            "importance_samples": 1,
            "classifier.cross_validate": False,
            **change,
        }
    )
    return run_experiment(config, workdir, data_dir=data_dir)


def main() -> None:
    """Prints the table, a row as soon as it is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir")
    parser.add_argument("--workdir", default="checkpoints/ablation", type=Path)
    flags = parser.parse_args()
    print(
        "validation accuracy %, 10 label splits; ELBO of the pixels, nats", flush=True
    )
    for name, change in CHANGES.items():
        folder = flags.workdir / name.replace(" ", "_").replace(",", "")
        try:
            results = run(change, folder, flags.data_dir)
        except InputError as error:
            parser.error(str(error))
        cells = [
            f"{mean_and_deviation([100 * one for one in row.test_accuracy]):>13}"
            for row in results.results
        ]
        units, elbo = results.vae["active_units"], results.vae["test_elbo"]
        print(f"{name:30}{units:4d}{elbo:8.1f}  {'  '.join(cells)}", flush=True)


if __name__ == "__main__":
    main()
