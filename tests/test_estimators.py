"""scikit-learn's own checks of the estimators, and our promises beyond them."""

import numpy as np
import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from ssl_vae.estimators import SemiSupervisedVAEClassifier, VAEFeatures

SMALL = {"latent_dim": 2, "hidden": (16,), "batch_size": 256, "num_epochs": 100}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks(
    [
        VAEFeatures(**SMALL, learning_rate=0.01),
        *(
            SemiSupervisedVAEClassifier(model, **SMALL, learning_rate=0.01)
            for model in ("m1", "m2", "m1_m2")
        ),
    ]
)
def test_scikit_learn_agrees(estimator, check):
    check(estimator)
