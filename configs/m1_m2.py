"""M1+M2: the model M2 of the latent variable of M1, the paper's best.

Command: python -m ssl_vae.main --config=configs/m1_m2.py
The paper's alpha and latent dimensions, and the hidden layers of the authors' code: two
of 500 in M1 (600 in the paper's text), in M2 one of 500, of 300 at 100 labels.
Fashion-MNIST, test accuracy %, inductive, mean and sd over 3 label splits:
66.44 (2.04) / 73.64 (0.52) / 73.90 (0.92) / 75.04 (1.13) at 100 / 600 / 1000 / 3000
labels. 18 of 50 units of z1 kept; test ELBO -237.7, log-likelihood -236.4 nats (100
importance samples) of the gray pixels. 111 minutes, most of them on one CPU core; an
epoch of M2 takes about 8 seconds on two. One split of 100 labels alone takes 10.9
minutes on one core, M1 included.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The recipe's fields; any of them can be set with --config.<field>=<value>."""
    return ConfigDict(
        {
            "recipe": "m1_m2",
            "seed": 42,
            "dataset": "fashion_mnist",
            "data": {"placement": "auto"},  # or device, or stream
            "evaluate_on": "test",
            "labels": (),  # as the data allows, see `splits.usual_labels`
            "num_splits": 3,
            "importance_samples": 100,
            # A finished run of a recipe for M1, in place of the group m1.
            "m1_workdir": "",
            "m1": {
                "model": {
                    "name": "m1",
                    "latent_dim": 50,
                    "hidden": (500, 500),
                    "kl_weight": 1.0,
                    "gradient_weight": 0.0,
                    "dtype": "float32",
                },
                "train": {
                    "num_epochs": 30,
                    "batch_size": 100,
                    "learning_rate": 1e-3,
                    "schedule": "cosine",
                    "kl_warmup": 0.0,
                    "checkpoint_every": 5,
                },
            },
            "model": {
                "name": "m1_m2",
                "latent_dim": 50,
                "hidden": (500,),
                "alpha": 0.1,
            },
            "train": {
                "num_epochs": 40,
                "batch_size": 100,
                "labeled_batch_size": 50,
                "warmup_epochs": 2,
                "learning_rate": 3e-3,
                "schedule": "cosine",
                "checkpoint_every": 10,
            },
            # The authors' hidden layers at 100 labels.
            "few": {
                "labels": 100,
                "model": {"hidden": (300,)},
                "train": {"num_epochs": 60},
            },
        }
    )
