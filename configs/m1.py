"""M1: VAE features and an RBF SVM, the system that everything starts from.

Run card: to be filled from the measured run.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The recipe's fields; any of them can be set with --config.<field>=<value>."""
    return ConfigDict(
        {
            "recipe": "m1",
            "seed": 42,
            "dataset": "fashion_mnist",
            "evaluate_on": "test",
            "labels": (100, 600, 1000, 3000),
            "num_splits": 10,
            "model": {
                "name": "m1",
                "latent_dim": 10,
                "hidden": (600, 600),
                "kl_weight": 1.0,
            },
            "train": {
                "num_epochs": 20,
                "batch_size": 100,
                "learning_rate": 5e-4,
                "checkpoint_every": 2,
            },
            "classifier": {"name": "svm_rbf", "C": 2.0, "standardize": False},
        }
    )
