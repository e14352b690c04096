"""Models as pure functions of their parameters; no training loop, no files.

All of them have `init`, `loss`, `elbo`, `log_weight`, `features` and `reconstruct`;
those that learn labels also `class_logits` and `decode_classes`. What need not be found
anew at every step is given to `loss` in place of images: to M1 their `view`, to M1+M2
their `code`, which its `class_logits` takes too. `Student` is no such model but a
classifier: it has `init`, `loss` and `class_logits`.
"""

from ssl_vae.models.m1 import ACTIVE_VARIANCE, M1, Params, active_units
from ssl_vae.models.m1_m2 import M1M2
from ssl_vae.models.m2 import M2
from ssl_vae.models.student import Student

__all__ = [
    "ACTIVE_VARIANCE",
    "M1",
    "M1M2",
    "M2",
    "JointModel",
    "Model",
    "Params",
    "Student",
    "active_units",
]

JointModel = M2 | M1M2  # of images and their classes: trained anew for other labels
Model = M1 | JointModel
