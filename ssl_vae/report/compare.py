"""Finished runs side by side, on a page."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ssl_vae import bucket
from ssl_vae import config as recipes
from ssl_vae.errors import InputError
from ssl_vae.report import figures, paired, render, words
from ssl_vae.report.page import beside, plain, series_of
from ssl_vae.results import Results
from ssl_vae.workdir import Workdir, read_json

COLORS = ("accent", "c1", "c2", "c3", "c4", "c5", "c6", "c9", "c8", "c7")
ASKED = ("labels",)  # fields that the tables show anyway


class Run(NamedTuple):
    """A finished run."""

    name: str
    workdir: Workdir
    results: Results
    recipe: dict[str, Any]  # fields by dotted name


def read_run(path: str) -> Run:
    """The finished run in a folder.

    Raises:
      InputError: when there is none, naming the folder and the remedy.
    """
    if not bucket.is_url(path) and not Path(path).is_dir():
        raise InputError(f"{path}: no such folder")
    workdir = Workdir(path)
    results = Results.load(workdir.results)
    if results is None:
        there = "its own command goes on with it" if workdir.config.exists() else ""
        raise InputError(
            f"{path}: no finished run, it holds no results.json"
            f"{f'; {there}' if there else ''}"
        )
    if not results.results:
        raise InputError(f"{workdir.results}: a run without any result")
    content = read_json(workdir.config)
    if not isinstance(content, dict) or not isinstance(content.get("config"), dict):
        raise InputError(f"{workdir.config}: not a run's config.json")
    return Run(path, workdir, results, recipes.flatten(content["config"]))


def read_runs(paths: Sequence[str]) -> list[Run]:
    """Runs that can be compared, each named after its folder.

    Raises:
      InputError: when one is not there, is given twice or is of other data.
    """
    runs = [read_run(path) for path in paths]
    folders = [run.workdir.path.resolve() for run in runs]
    for i, (run, folder) in enumerate(zip(runs, folders, strict=True)):
        if folder in folders[:i]:
            raise InputError(f"{run.name}: given twice")
        _check_same_data(runs[0], run)
    names = [folder.name for folder in folders]
    return [
        run._replace(name=name) if names.count(name) == 1 else run
        for run, name in zip(runs, names, strict=True)
    ]


def _check_same_data(first: Run, other: Run) -> None:
    mine, theirs = (run.results.dataset for run in (first, other))
    if mine["sha256"] == theirs["sha256"]:
        return
    images = mine.get("images_sha256")
    if images and images == theirs.get("images_sha256"):
        raise InputError(
            f"{other.name}: of the same images as {first.name}, with other labels;"
            " compare runs of the same labels"
        )
    raise InputError(
        f"{other.name}: a run of {_data(theirs)}, and {first.name} is one of"
        f" {_data(mine)}; compare runs of the same images"
    )


def _data(dataset: dict[str, Any]) -> str:
    return f"{dataset['name']} (digest {str(dataset['sha256'])[:12]})"


def write_comparison(path: Path, runs: Sequence[Run]) -> None:
    """Writes the page that shows runs side by side."""
    results = [run.results for run in runs]
    protocols = {n: text for r in results for n, text in words.protocols(r).items()}
    content = {
        "runs": runs,
        "colors": [_color(i) for i in range(len(runs))],
        "dataset": results[0].dataset,
        "held_out": words.held_out(results[0]),
        "images": words.images(results[0]),
        "splits": words.splits(results[0]),
        "protocols": [_protocol(*each, runs) for each in protocols.items()],
        "fields": _different([run.recipe for run in runs]),
        "versions": _different([r.versions | {"device": r.device} for r in results]),
    }
    render.write(path, "comparison.html", content)


def _protocol(protocol: str, meaning: str, runs: Sequence[Run]) -> dict[str, Any]:
    """Chart and table of the rows of one protocol: protocols never share a column."""
    first = runs[0].results
    rows = [[r for r in run.results.results if r.protocol == protocol] for run in runs]
    mine = [
        series_of(some, run.name, _color(i))
        for i, (run, some) in enumerate(zip(runs, rows, strict=True))
        if some
    ]
    others = [s._replace(color="muted") for s in beside(first, [protocol])]
    every = [*mine, *others]
    columns = sorted({n for series in every for n in series.labels})
    by_labels = [{row.labels: row for row in some} for some in rows if some]
    return {
        "name": protocol,
        "meaning": meaning,
        "chart": figures.accuracy_chart(every, f"{words.held_out(first)} accuracy"),
        "columns": [
            (n, paired.compare([each.get(n) for each in by_labels])) for n in columns
        ],
        "mine": [(s.name, s.color) for s in mine],
        "beside": [(s, [s.at(n) for n in columns]) for s in others],
    }


def _color(i: int) -> str:
    return COLORS[i % len(COLORS)]


def _different(runs: Sequence[dict[str, Any]]) -> list[tuple[str, list[str]]]:
    """Fields that are not the same in all runs, and their values."""
    names = sorted({name for run in runs for name in run} - set(ASKED))
    return [
        (name, [plain(run[name]) if name in run else "–" for run in runs])
        for name in names
        if any(run.get(name) != runs[0].get(name) for run in runs)
    ]
