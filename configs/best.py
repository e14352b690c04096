"""The most accuracy for a label: M1's features, an SVM, and a network that it teaches.

Command: python -m ssl_vae.main --config=configs/best.py
"""

from ml_collections import ConfigDict

from ssl_vae import config as recipes


def get_config() -> ConfigDict:
    """The recipe m1_features, with a student for its SVMs."""
    config = recipes.load(recipes.recipe_path("m1_features"))
    config.recipe = "best"
    config.num_splits = 3
    with config.unlocked():
        config.student = ConfigDict(
            {
                "num_epochs": 18,
                "batch_size": 128,
                "labeled_batch_size": 32,
                "learning_rate": 1e-3,
                "schedule": "cosine",
                "checkpoint_every": 2,
            }
        )
    return config
