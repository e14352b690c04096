"""Semi-supervised learning with variational autoencoders: many images, few labels."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ssl_vae.trained import TrainedClassifier


def load(workdir: str | Path) -> "TrainedClassifier":
    """The classifier of a finished run, see `trained.load`."""
    from ssl_vae import trained  # late: JAX takes seconds to import

    return trained.load(workdir)
