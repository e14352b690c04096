"""The charts of a report, from a run's results and its arrays."""

from typing import NamedTuple

import numpy as np

from ssl_vae.report import charts
from ssl_vae.report.charts import Chart, Mark
from ssl_vae.report.evidence import Evidence

BARS = 200  # units at most
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
COLORS = 10  # that are told apart; of classes beyond, those of most images get one
FEW = 10  # images, of which a share right tells next to nothing
APART = 7.0  # between the marks of series at one number of labels


class Series(NamedTuple):
    """Accuracy at some numbers of labels."""

    name: str
    color: str  # a custom property of the style sheet
    labels: list[int]
    mean: list[float]
    deviation: list[float]
    splits: list[list[float]]  # the accuracies, where they are to be shown
    kind: str = "line"  # or "faint" for what stands beside

    def at(self, labels: int) -> tuple[float, float] | None:
        """Mean and deviation at a number of labels, if there is any."""
        if labels not in self.labels:
            return None
        i = self.labels.index(labels)
        return self.mean[i], self.deviation[i]


def accuracy_chart(series: list[Series], what: str) -> Chart:
    """Accuracy against the number of labels: splits as dots, mean and deviation."""
    every = [
        value
        for s in series
        for m, d, splits in zip(s.mean, s.deviation, s.splits, strict=True)
        for value in (m - d, m + d, *splits)
    ]
    counts = sorted({n for s in series for n in s.labels})
    x = charts.log_axis("labels", counts, counts)
    y = charts.axis(f"{what}, %", every, vertical=True, percent=True, num_ticks=7)
    loud = [s.name for s in series if s.kind == "line"]
    marks = []
    for s in sorted(series, key=lambda s: s.kind != "faint"):  # those beside lie below
        place = loud.index(s.name) - (len(loud) - 1) / 2 if s.name in loud else 0.0
        marks += _marks(s, x(s.labels) + APART * place, y)
    title = f"{what} in percent against the number of labels, of {', '.join(loud)}"
    return Chart(title, x, y, marks)


def _marks(series: Series, at: np.ndarray, y: charts.Axis) -> list[Mark]:
    mean, deviation = np.array(series.mean), np.array(series.deviation)
    line = Mark(series.kind, charts.line(at, y(mean)), series.color)
    if series.kind == "faint":
        return [line, Mark("points", charts.dots(at, y(mean)), series.color)]
    beside = [
        (a - 7, value)
        for a, some in zip(at, series.splits, strict=True)
        for value in some
    ]
    dots = np.array(beside).reshape(-1, 2)
    bars = charts.errors(at, y(mean - deviation), y(mean + deviation))
    return [
        line,
        Mark("split", charts.dots(dots[:, 0], y(dots[:, 1])), series.color),
        Mark("errors", bars, series.color),
        Mark("dots", charts.dots(at, y(mean)), series.color),
    ]


def reliability_chart(evidence: Evidence) -> Chart:
    """Accuracy against probability, over bars of the share of images in each bin.

    Bins of fewer than FEW images are faint dots, apart from the line.
    """
    counts, said, was = evidence["reliability"]
    many, few = counts >= FEW, (counts > 0) & (counts < FEW)
    x = charts.exact_axis("probability, %", 0, 1, SHARES, vertical=False)
    y = charts.exact_axis("accuracy, %", 0, 1, SHARES, vertical=True)
    shares = charts.bars(
        x((np.arange(len(counts)) + 0.5) / len(counts)),
        y(counts / counts.sum()),
        base=y([0])[0],
        width=(x.end - x.start) / len(counts) - 2,
    )
    marks = [
        Mark("bars", shares, "faint"),
        Mark("rule", charts.line(x([0, 1]), y([0, 1])), "muted"),
        Mark("dots", charts.dots(x(said[few]), y(was[few])), "faint"),
        Mark("line", charts.line(x(said[many]), y(was[many]))),
        Mark("dots", charts.dots(x(said[many]), y(was[many]))),
    ]
    drawn = [mark for mark in marks if mark.path]
    return Chart("Accuracy against the probability of the likeliest class", x, y, drawn)


def calibration_error(evidence: Evidence) -> float:
    """See `confidence.calibration_error`."""
    counts, said, was = evidence["reliability"].astype(np.float64)
    return float(np.sum(counts * np.abs(said - was)) / np.sum(counts))


def abstention_chart(evidence: Evidence, images: str) -> Chart:
    """Accuracy on the images that the classifier is surest of."""
    share, accuracy = evidence["surest"]
    late = share > 0.02  # means over a few images jump about
    x = charts.exact_axis(
        f"{images} answered, surest first, %", 0, 1, SHARES, vertical=False
    )
    y = charts.axis("accuracy on them, %", accuracy[late], vertical=True, percent=True)
    marks = [Mark("line", charts.line(x(share[late]), y(accuracy[late])))]
    return Chart("Accuracy against the share of images that are answered", x, y, marks)


class Cloud(NamedTuple):
    """Images of a class in the plane, or of all that have no color of their own."""

    name: str
    color: int | None  # one of COLORS, None is gray
    at: np.ndarray  # [n, 2]


def clouds(evidence: Evidence) -> list[Cloud]:
    """The plane by classes: those of most images have a color, the others are gray."""
    plane, labels = evidence["plane"], evidence["plane_labels"]
    names = evidence["class_names"].tolist()
    classes = range(len(names))
    counts = np.array([np.sum(labels == k) for k in classes])
    colored = np.sort(np.argsort(-counts, kind="stable")[:COLORS]).tolist()
    found = [Cloud(names[k], i, plane[labels == k]) for i, k in enumerate(colored)]
    if len(names) > COLORS:
        others = ~np.isin(labels, colored)
        found.append(Cloud("all others", None, plane[others]))
    return found


def plane_chart(evidence: Evidence) -> Chart:
    """The images in the plane of two principal components, a color a class."""
    plane, every = evidence["plane"], clouds(evidence)
    share = 100 * float(evidence["plane_share"])
    size = charts.WIDTH, charts.WIDTH
    x = charts.axis("first principal component", plane[:, 0], size=size)
    label = f"second ({share:.0f} % of the variance together)"
    y = charts.axis(label, plane[:, 1], vertical=True, size=size)
    marks = [
        Mark("cloud", charts.dots(x(at[:, 0]), y(at[:, 1])), style_color(color))
        for _, color, at in sorted(every, key=lambda cloud: cloud.color is not None)
        if len(at)
    ]
    few = len(evidence["class_names"]) <= COLORS
    which = "a class" if few else f"for each of the {COLORS} most frequent classes"
    return Chart(f"Images by their features, a color {which}", x, y, marks, *size)


def style_color(color: int | None) -> str:
    """A custom property of the style sheet."""
    return "faint" if color is None else f"c{color}"


def units_chart(evidence: Evidence) -> Chart:
    """Variance of each unit of the features, the largest first, on a log axis."""
    variances = np.sort(evidence["variances"])[::-1][:BARS]
    active = float(evidence["active_variance"])
    powers = np.arange(-4.0, max(1, np.ceil(np.log10(variances.max() + 1e-9))) + 1)
    x = charts.axis("units by rank, the most active first", [0.5, len(variances) + 0.5])
    y = charts.Axis(
        "variance over the images",
        10 ** powers[0],
        10 ** powers[-1],
        charts.HEIGHT - charts.BOTTOM,
        charts.TOP,
        True,
        (10.0**powers).tolist(),
        [charts.number(10.0**p) for p in powers],
    )
    width = min(40.0, 0.8 * (x.end - x.start) / len(variances))
    path = charts.bars(
        x(np.arange(len(variances)) + 1), y(variances), base=y.start, width=width
    )
    rule = charts.line([x.start, x.end], y([active, active]))
    marks = [Mark("bars", path), Mark("rule", rule, "warm")]
    return Chart("Variance of the posterior mean of each latent unit", x, y, marks)
