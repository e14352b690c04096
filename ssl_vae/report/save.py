"""What a run leaves of itself besides its numbers; nothing here ever stops a run."""

from pathlib import Path

import numpy as np

from ssl_vae.datasets import Dataset
from ssl_vae.models import Model, Params
from ssl_vae.report import evidence
from ssl_vae.report.attempt import attempt
from ssl_vae.report.card import write_card
from ssl_vae.report.gather import gather
from ssl_vae.report.page import write_report
from ssl_vae.report.pictures import save_pictures
from ssl_vae.results import Results
from ssl_vae.workdir import Workdir


def save_exhibits(
    folder: Path,
    model: Model,
    params: Params,
    data: Dataset,
    features: np.ndarray,
    probs: np.ndarray,
) -> None:
    """Writes report.npz and the PNG pictures.

    Args:
      folder: Where they go.
      model: The trained model.
      params: Its weights.
      data: Gives the images that it was measured on, their labels and class names.
      features: Its features of those images, float [M, latent].
      probs: Probabilities of their classes, float [M, K].
    """
    with attempt("pictures"):
        (folder / evidence.FILE).unlink(missing_ok=True)  # of an earlier model
        found = gather(model, params, data, features, probs)
        save_pictures(folder, found)
        evidence.save(folder, found)


def save_documents(run: Workdir, results: Results) -> None:
    """Writes report.html and model_card.md, from what the run's folder holds."""
    with attempt("report.html and model_card.md"):
        found = evidence.load(run.path)
        write_report(run.path / "report.html", run, results, found)
        write_card(run.path / "model_card.md", results, found)
