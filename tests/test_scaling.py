"""The arithmetic behind docs/scaling.md, and what its page prints."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module", autouse=True)
def _benchmarks():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        yield
    for name in ("pod", "scaling", "throughput"):
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def step():
    import pod

    return pod.step_cost()


def test_operations_counted_by_hand_are_those_that_xla_counts(step):
    """XLA also counts what is done number by number: 1 in 100 of an image's."""
    from throughput import HIDDEN, LATENT, PIXELS, flop_per_image

    by_hand = flop_per_image(PIXELS, HIDDEN, LATENT)
    assert step.flop[1] == pytest.approx(by_hand, rel=0.02)
    assert step.flop[1] > by_hand


def test_bytes_that_every_step_moves_are_a_few_copies_of_the_weights(step):
    assert 10 < step.bytes[0] / (4 * step.params) < 15


def test_all_reduce_sends_nearly_twice_the_gradients():
    import pod

    sent, seconds = pod.all_reduce(1000, 2, 4)
    assert sent == 2 * 7 / 8 * 4000
    assert seconds == pytest.approx(sent / 100e9 + 8e-6)
    assert pod.all_reduce(1000, 1, 1) == (0, 0)


def numbers(text):
    return [float(n) for n in re.findall(r"[\d.]+", text.replace(",", ""))]


def test_the_page_has_the_tables_that_the_command_prints(step):
    import pod

    page = (ROOT / "docs" / "scaling.md").read_text()
    for table in pod.TABLES:
        head, _, *rows = table(step).splitlines()
        assert head in page
        there = page.split(head)[1].split("\n\n")[0].splitlines()[2:]
        assert len(there) == len(rows)
        for old, new in zip(there, rows, strict=True):
            np.testing.assert_allclose(numbers(old), numbers(new), rtol=0.03, atol=1)


def test_growth_is_the_exponent_and_a_line_its_slope():
    import scaling

    sizes = [10, 20, 40]
    assert scaling.growth(sizes, [5.0, 10.0, 20.0]) == pytest.approx(1)
    assert scaling.growth(sizes, [1.0, 4.0, 16.0]) == pytest.approx(2)
    assert scaling.line(sizes, [7.0, 9.0, 13.0]) == pytest.approx((5, 0.2))
