"""docs/tutorial.ipynb runs, and prints what it is shown with."""

import io
import json
import re
from contextlib import redirect_stdout
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

NOTEBOOK = Path(__file__).parent.parent / "docs" / "tutorial.ipynb"
NUMBER = r"-?\d+\.?\d*"
MOST_BYTES = 250_000


def printed(cell: dict) -> str:
    """What the notebook shows as printed by a cell."""
    return "".join(text for out in cell["outputs"] for text in out.get("text", []))


def test_the_tutorial_prints_what_it_is_shown_with(monkeypatch):
    plt.switch_backend("agg")
    monkeypatch.setattr(plt, "show", lambda: plt.close("all"))
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    names = {"__name__": "tutorial"}
    for cell in (each for each in cells if each["cell_type"] == "code"):
        source, said = "".join(cell["source"]), io.StringIO()
        with redirect_stdout(said):
            exec(compile(source, "tutorial.ipynb", "exec"), names)
        now, then = said.getvalue(), printed(cell)
        assert re.sub(NUMBER, "#", now) == re.sub(NUMBER, "#", then), source
        # Accuracies in percent, which another processor changes a little.
        np.testing.assert_allclose(
            [float(number) for number in re.findall(NUMBER, now)],
            [float(number) for number in re.findall(NUMBER, then)],
            atol=3,
            err_msg=source,
        )


def test_the_tutorial_is_small_enough_for_git():
    assert NOTEBOOK.stat().st_size < MOST_BYTES
