"""M1's features, and an SVM whose guesses are smoothed over the images' graph.

Run card. Command: python -m ssl_vae.main --config=configs/m1_graph.py
Not measured yet.
"""

from ml_collections import ConfigDict

from ssl_vae import config as recipes


def get_config() -> ConfigDict:
    """The recipe m1_features, with a graph for the guesses of its SVMs."""
    config = recipes.load(recipes.recipe_path("m1_features"))
    config.recipe = "m1_graph"
    with config.unlocked():
        config.graph = ConfigDict({"num_neighbors": 10, "strength": 1.0})
    return config
