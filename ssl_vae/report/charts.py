"""Charts as plain values: axes, and marks that are SVG paths.

A template turns them into inline SVG in the colors of the page, light or dark.
Lengths are in units of the SVG's view box, about a pixel on a laptop.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.ticker import MaxNLocator

Numbers = Sequence[float] | np.ndarray

WIDTH, HEIGHT = 480, 320
SMALL = (240, 160)
LEFT, RIGHT, TOP, BOTTOM = 46, 22, 30, 48
TICK_ROOM = 44  # between labels of a log axis


@dataclass(frozen=True)
class Axis:
    """From values to places on one side of a chart.

    Attributes:
      label: What the values are, with their unit.
      low: The value at `start`.
      high: The value at `end`.
      start: Place of the lowest value.
      end: Place of the highest.
      log: Whether equal factors are equal lengths.
      ticks: Values that are marked.
      names: What is written at them.
    """

    label: str
    low: float
    high: float
    start: float
    end: float
    log: bool
    ticks: Sequence[float]
    names: Sequence[str]

    def __call__(self, values: Numbers) -> np.ndarray:
        """Places of values; a value beyond an end is put at the end."""
        low, high, at = self.low, self.high, np.asarray(values, np.float64)
        if self.log:
            low, high, at = np.log(low), np.log(high), np.log(np.maximum(at, 1e-300))
        share = np.clip((at - low) / (high - low), 0, 1)
        return self.start + share * (self.end - self.start)

    @property
    def marked(self) -> list[tuple[float, str]]:
        """Place and name of each tick."""
        return list(zip(self(self.ticks).tolist(), self.names, strict=True))


@dataclass(frozen=True)
class Mark:
    """A path, how it is drawn (a class of the style sheet) and in which color."""

    kind: str  # such as "line", "dots", "bars", "errors"
    path: str
    color: str = "accent"  # a custom property of the style sheet


@dataclass(frozen=True)
class Chart:
    """Axes and what is drawn between them; `title` is what a screen reader says."""

    title: str
    x: Axis
    y: Axis
    marks: list[Mark] = field(default_factory=list)
    width: int = WIDTH
    height: int = HEIGHT


def axis(
    label: str,
    values: Numbers,
    *,
    vertical: bool = False,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    percent: bool = False,
    num_ticks: int = 5,
) -> Axis:
    """A linear axis with room for the values and ticks at round numbers."""
    low, high = float(np.min(values)), float(np.max(values))
    if high - low <= 1e-9 * max(abs(low), abs(high), 1e-9):
        low, high = low - 0.5 * (abs(low) or 1), high + 0.5 * (abs(high) or 1)
    ticks = MaxNLocator(num_ticks, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    room = 0.04 * (high - low)
    low, high = low - room, high + room
    inside = [float(tick) for tick in ticks if low <= tick <= high]
    names = [number(100 * t if percent else t) for t in inside]
    return Axis(label, low, high, *_ends(vertical, size), False, inside, names)


def exact_axis(
    label: str, low: float, high: float, ticks: Sequence[float], *, vertical: bool
) -> Axis:
    """A linear axis of shares in percent from `low` to `high`, as they are."""
    names = [number(100 * tick) for tick in ticks]
    return Axis(label, low, high, *_ends(vertical), False, ticks, names)


def log_axis(label: str, values: Numbers, ticks: Sequence[float]) -> Axis:
    """A horizontal log axis; of the ticks, those that there is room to name."""
    low, high = 0.8 * float(np.min(values)), 1.25 * float(np.max(values))
    every = Axis(label, low, high, *_ends(False), True, ticks, [""] * len(ticks))
    kept: list[float] = []
    for tick, place in zip(ticks, every(ticks), strict=True):
        if not kept or place - every([kept[-1]])[0] >= TICK_ROOM:
            kept.append(tick)
    return Axis(label, low, high, *_ends(False), True, kept, [grouped(t) for t in kept])


def _ends(
    vertical: bool, size: tuple[int, int] = (WIDTH, HEIGHT)
) -> tuple[float, float]:
    width, height = size
    return (height - BOTTOM, TOP) if vertical else (LEFT, width - RIGHT)


def number(value: float) -> str:
    """A number with a true minus sign, as short as it goes."""
    text = grouped(value) if abs(value) >= 10_000 else f"{value:.4g}"
    return text.replace("-", "\N{MINUS SIGN}")


def grouped(value: float) -> str:
    """A whole number in groups of three digits: 60 000, with a narrow space."""
    return f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def line(x: Numbers, y: Numbers) -> str:
    """A path through points."""
    return "M" + "L".join(_points(x, y)) if len(x) else ""


def dots(x: Numbers, y: Numbers) -> str:
    """A path of no length at every point: round line ends make it a dot."""
    return "".join(f"M{point}h0" for point in _points(x, y))


def bars(x: Numbers, y: Numbers, *, base: float, width: float) -> str:
    """A path around bars that stand on `base`."""
    return "".join(
        f"M{_short(at - width / 2)} {_short(base)}V{_short(top)}h{_short(width)}"
        f"V{_short(base)}z"
        for at, top in zip(x, y, strict=True)
    )


def errors(x: Numbers, low: Numbers, high: Numbers, *, cap: float = 4) -> str:
    """A path of vertical bars with caps."""
    return "".join(
        f"M{_short(at - cap)} {_short(a)}h{2 * cap:g}m-{cap:g} 0V{_short(b)}"
        f"m-{cap:g} 0h{2 * cap:g}"
        for at, a, b in zip(x, low, high, strict=True)
    )


def _points(x: Numbers, y: Numbers) -> list[str]:
    return [f"{_short(a)} {_short(b)}" for a, b in zip(x, y, strict=True)]


def _short(value: float) -> str:
    return f"{round(float(value), 1):g}"
