"""M2: one generative model of images, classes and styles, with its own classifier."""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The recipe's fields; any of them can be set with --config.<field>=<value>."""
    return ConfigDict(
        {
            "recipe": "m2",
            "seed": 42,
            "dataset": "fashion_mnist",
            "evaluate_on": "test",
            "labels": (100, 600, 1000, 3000),
            "num_splits": 3,
            "importance_samples": 100,
            "model": {
                "name": "m2",
                "latent_dim": 50,
                "hidden": (500,),
                "alpha": 0.1,
            },
            "train": {
                "num_epochs": 30,
                "batch_size": 100,
                "labeled_batch_size": 50,
                "warmup_epochs": 2,
                "learning_rate": 1e-3,
                "schedule": "cosine",
                "checkpoint_every": 5,
            },
            # The authors' hidden layers at 100 labels.
            "few": {"labels": 100, "model": {"hidden": (300,)}},
        }
    )
