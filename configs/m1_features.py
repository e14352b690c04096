"""The most that a plain VAE and an RBF SVM gave: no labels in the VAE, no graph.

Command: python -m ssl_vae.main --config=configs/m1_features.py
"""

from ml_collections import ConfigDict

from ssl_vae import config as recipes


def get_config() -> ConfigDict:
    """The recipe m1, changed where it says so."""
    config = recipes.load(recipes.recipe_path("m1"))
    config.recipe = "m1_features"
    config.model.latent_dim = 50
    config.model.hidden = (500, 500)
    # At weight 1 most latent units collapse, and with them what tells classes apart.
    config.model.kl_weight = 0.05
    config.model.gradient_weight = 10.0
    config.classifier.cross_validate = True
    config.train.learning_rate = 1e-3
    config.train.schedule = "cosine"
    return config
