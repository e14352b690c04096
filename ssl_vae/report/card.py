"""model_card.md: what a run's model is, what it is good for, and what it is not."""

from pathlib import Path

from ssl_vae.report import figures, render, words
from ssl_vae.report.evidence import Evidence
from ssl_vae.results import Results


def write_card(path: Path, results: Results, found: Evidence) -> None:
    """Writes the card of a run.

    Args:
      path: Its file.
      results: Of the run.
      found: The arrays of the run's report, as far as there are any.
    """
    calibrated = "reliability" in found
    content = {
        "results": results,
        "newest": results.results[-1],
        "model": words.model(results),
        "held_out": words.held_out(results),
        "splits": words.splits(results),
        "seeds": words.seeds(results),
        "images": words.images(results),
        "protocols": words.protocols(results),
        "class_names": found["class_names"].tolist() if found else [],
        "error": figures.calibration_error(found) if calibrated else None,
    }
    render.write(path, "model_card.md", content)
