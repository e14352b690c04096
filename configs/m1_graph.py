"""M1's features, an SVM of moved labels, and its guesses smoothed over a graph.

Run card. Command: python -m ssl_vae.main --config=configs/m1_graph.py
Fashion-MNIST, test accuracy %, inductive, mean and sd over 10 label splits: 78.53
(1.67) / 86.36 (0.30) / 87.42 (0.42) / 89.46 (0.15) at 100 / 600 / 1000 / 3000 labels;
expected calibration error 0.063 / 0.040 / 0.042 / 0.037. The VAE is that of
m1_features. 10.1 minutes and 1.9 GB on 2 CPU cores, of one split 3.5 minutes and
1.5 GB. The strength was chosen on validation images, without shifted labels
(benchmarks/unlabeled.py: 3 is better at 100 labels and worse at 3000), the shifts
likewise (benchmarks/images.py); the number of neighbors was not varied. The recipe is
for sets whose classes have the same shares among the labeled as among all.
"""

from ml_collections import ConfigDict

from ssl_vae import config as recipes


def get_config() -> ConfigDict:
    """The recipe m1_features, its SVMs shown the labeled images moved, and a graph."""
    config = recipes.load(recipes.recipe_path("m1_features"))
    config.recipe = "m1_graph"
    config.classifier.shifted = True
    with config.unlocked():
        config.graph = ConfigDict({"num_neighbors": 10, "strength": 1.0})
    return config
