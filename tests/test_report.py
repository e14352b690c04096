"""report.html, model_card.md and the comparison page, as a reader sees them."""

import dataclasses
import html.parser
import io
import json
import logging
import re
import shutil
import subprocess
import sys
from base64 import b64decode
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssl_vae import config as recipes
from ssl_vae.datasets.known import CANONICAL_SHA256
from ssl_vae.errors import InputError
from ssl_vae.experiment import run_experiment
from ssl_vae.report import (
    charts,
    evidence,
    figures,
    gather,
    images,
    losses,
    page,
    pictures,
)
from ssl_vae.report.__main__ import main
from ssl_vae.report.card import write_card
from ssl_vae.results import Row
from ssl_vae.workdir import Workdir

CHANGES = {
    "labels": (8, 40),
    "num_splits": 2,
    "importance_samples": 5,
    "model.latent_dim": 3,
    "model.hidden": (16,),
    "train.num_epochs": 2,
    "train.batch_size": 20,
}
JOINT = {
    "labels": (8,),
    "train.labeled_batch_size": 4,
    "train.warmup_epochs": 0,
    "few.model.hidden": (16,),
}
# Trained so little that there are mistakes to show.
WEAK = {
    "train.learning_rate": 3e-4,
    "train.schedule": "constant",
    "train.kl_warmup": 0.0,
}
HOSTILE = ("<script>alert(1)</script>", '"><img src=x onerror=y>', "$x^|`", "a&b\n# c")


def recipe(name, **changes):
    config = recipes.load(recipes.recipe_path(name))
    own = JOINT if name == "m2" else WEAK
    config.update_from_flattened_dict(CHANGES | own | changes)
    return config


class Page(html.parser.HTMLParser):
    """A page's elements and its text."""

    def __init__(self, path):
        super().__init__()
        self.elements, self.words = [], []
        self.feed(path.read_text())
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)

    def all(self, tag):
        return [attrs for each, attrs in self.elements if each == tag]

    @property
    def absent(self):
        return [a for _, a in self.elements if a.get("class") == "absent"]


@pytest.fixture(scope="module")
def m1(small_data, tmp_path_factory):
    """The folder of a finished run of M1, and what it logged as lost."""
    folder = tmp_path_factory.mktemp("reports") / "first"
    run_experiment(recipe("m1"), folder, data_dir=small_data, command="its command")
    return folder


@pytest.fixture(scope="module")
def m2(small_data, m1):
    folder = m1.with_name("second")
    run_experiment(recipe("m2"), folder, data_dir=small_data, command="another one")
    return folder


@pytest.fixture
def copy(m1, tmp_path):
    """The run of M1 in a folder that a test may change."""
    return shutil.copytree(m1, tmp_path / "copy")


def results_of(folder):
    from ssl_vae.results import Results

    return Results.load(folder / "results.json")


def written(tmp_path, folder, found=None, **changes):
    """The page of a run whose results or arrays are changed."""
    path = tmp_path / "page.html"
    results = dataclasses.replace(results_of(folder), **changes)
    found = evidence.load(folder) if found is None else found
    page.write_report(path, Workdir(folder), results, found)
    return Page(path)


# The page of a run.


@pytest.mark.parametrize("run", ["m1", "m2"])
def test_a_report_needs_nothing_but_its_own_file(run, request):
    path = request.getfixturevalue(run) / "report.html"
    shown = Page(path)
    assert path.stat().st_size < 1_500_000
    assert not shown.all("script") and not shown.all("iframe")
    assert {a["href"] for a in shown.all("link")} == {"data:,"}
    assert all(a["href"].startswith("#") for a in shown.all("a"))
    assert all(a["src"].startswith("data:image/png") for a in shown.all("img"))
    assert not any(name in path.read_text() for name in ("http:", "https:", "url("))
    (policy,) = [a for a in shown.all("meta") if "http-equiv" in a]
    assert policy["content"].startswith("default-src 'none'; img-src data:;")


@pytest.mark.parametrize("run", ["m1", "m2"])
def test_a_report_has_every_section(run, request):
    folder = request.getfixturevalue(run)
    shown, results = Page(folder / "report.html"), results_of(folder)
    assert [a["id"] for a in shown.all("section")] == [
        *("accuracy", "mistakes", "trust", "images", "latent", "training", "repeat")
    ]
    assert shown.absent == []
    wanted = ["Confusion", "Reconstructions", "Samples", "Traversals", "KL"]
    wanted += [
        results.command,
        results.dataset["sha256"],
        "cpu x",
        "no step of the training saw",
    ]
    wanted += [f"{name} {v}" for name, v in results.versions.items()]
    wanted += [f"{100 * row.test_accuracy_mean:.2f}" for row in results.results]
    wanted += [f"{row.labels} labels" for row in results.results]
    wanted += ["Analogies", "choices of the labeled"] if run == "m2" else []
    whole = shown.text + " ".join(a.get("aria-label", "") for _, a in shown.elements)
    assert [text for text in wanted if text not in whole] == []


@pytest.mark.parametrize("run", ["m1", "m2"])
def test_a_report_can_be_read_without_seeing_it(run, request):
    shown = Page(request.getfixturevalue(run) / "report.html")
    assert shown.all("html") == [{"lang": "en"}]
    assert all(a["alt"] for a in shown.all("img"))
    assert all(a["aria-label"] for a in shown.all("svg"))
    assert len(shown.all("caption")) == len(shown.all("table"))
    assert all("scope" in a for a in shown.all("th") if a)
    assert len(shown.all("h1")) == 1


@pytest.mark.parametrize("run", ["m1", "m2"])
def test_every_part_of_the_evidence_is_kept(run, request):
    found = evidence.load(request.getfixturevalue(run))
    other = {"samples"} if run == "m2" else {"styles", "analogies"}
    assert found.keys() == evidence.FORM.keys() - other
    assert found["confusion"].sum() == 80
    assert found["traversals"].shape == (3, 7, 8, 8, 1)


def test_the_surest_mistakes_come_first_and_are_mistakes(m1):
    found = evidence.load(m1)
    label, said = found["mistakes_classes"].T
    assert len(label)
    assert np.all(label != said)
    assert np.all(np.diff(found["mistakes_probs"][:, 1]) <= 0)
    wrong = found["confusion"].sum() - np.trace(found["confusion"])
    assert len(label) == min(wrong, gather.MISTAKES)


def test_picture_page_and_card_have_their_calibration_error_from_one_place(
    m1, tmp_path, monkeypatch
):
    monkeypatch.setattr(figures, "calibration_error", lambda _: 0.123)
    found = evidence.load(m1)
    titles = [axis.get_title() for axis in pictures.confidence(found).axes]
    assert "expected calibration error 0.123" in titles
    assert "off by 12.3 points" in written(tmp_path, m1).text
    write_card(tmp_path / "card.md", results_of(m1), found)
    assert "off by 12.3 points" in (tmp_path / "card.md").read_text()


def test_what_a_user_named_is_shown_and_never_acted_upon(m1, tmp_path):
    found = dict(evidence.load(m1)) | {"class_names": np.array(HOSTILE)}
    dataset = results_of(m1).dataset | {"name": "<b>x</b>&'\""}
    command = "python --workdir='</code><script>'\n# `head`"
    shown = written(tmp_path, m1, found, dataset=dataset, command=command)
    tags = {tag for tag, _ in shown.elements}
    assert not tags & {"script", "b>x<"}
    assert all(a["src"].startswith("data:") for a in shown.all("img"))
    assert not any(name.startswith("on") for _, a in shown.elements for name in a)
    assert all(name in "".join(shown.words) for name in HOSTILE)
    write_card(
        tmp_path / "card.md",
        dataclasses.replace(results_of(m1), dataset=dataset, command=command),
        found,
    )
    card = (tmp_path / "card.md").read_text()
    assert r"\<script\>" in card and "\n<" not in card
    assert r"\$x^\|\`" in card and r"a\&b \# c" in card
    assert "    python --workdir='</code><script>'\n    # `head`\n" in card


def test_a_name_that_is_no_text_does_not_stop_the_report(m1, tmp_path):
    shown = written(tmp_path, m1, command="--workdir=\udcff")
    assert "--workdir=?" in shown.text


def test_baselines_stand_only_beside_inductive_runs_of_the_real_images(m1, tmp_path):
    real = results_of(m1).dataset | {"sha256": CANONICAL_SHA256["fashion_mnist"]}
    rows = results_of(m1).results
    known = ("oriented gradients, SVM", "64.82", "reported reference")
    shown = written(tmp_path, m1, dataset=real)
    assert all(text in shown.text for text in known)
    other = [dataclasses.replace(row, protocol="cross_validation") for row in rows]
    for shown in (
        written(tmp_path, m1),
        written(tmp_path, m1, dataset=real, results=other),
    ):
        assert not any(text in shown.text for text in known)
    assert "the training saw it without" in shown.text


def test_cross_validation_is_called_by_its_name(m1, tmp_path):
    rows = results_of(m1).results
    rows = [dataclasses.replace(row, protocol="cross_validation") for row in rows]
    shown = written(tmp_path, m1, results=rows)
    assert "Cross-validation accuracy of this run" in shown.text
    assert "not given its label" in shown.text
    assert "over 2 folds" in shown.text and "choice" not in shown.text
    assert "of the test images" not in shown.text
    assert "Of the classifiers of the folds at 40 labels, each image" in shown.text
    assert "Of the classifier with" not in shown.text
    write_card(
        tmp_path / "card.md",
        dataclasses.replace(results_of(m1), results=rows),
        evidence.load(m1),
    )
    card = (tmp_path / "card.md").read_text()
    assert "each image judged in its fold," in card and "first choice" not in card


def test_a_calibration_error_of_folds_is_that_of_all_their_images(m1, tmp_path):
    rows = results_of(m1).results
    own = f"{np.mean([each['error'] for each in rows[0].calibration]):.3f}"
    assert own in written(tmp_path, m1).text
    rows = [dataclasses.replace(row, protocol="cross_validation") for row in rows]
    shown = written(tmp_path, m1, results=rows)
    assert own not in shown.text and "A fold has too few images to tell" in shown.text


def test_one_choice_has_no_deviation(m1, tmp_path):
    results = results_of(m1)
    first = [
        Row.measured(n, "svm_rbf", {0: results.row(n).test_accuracy[0]}, protocol="any")
        for n in (8, 40)
    ]
    mean = f"{100 * first[0].test_accuracy_mean:.2f}"
    written(tmp_path, m1, results=first)
    table = (tmp_path / "page.html").read_text().split("accuracy of this run, %")[1]
    [body] = re.findall("<tbody>(.*?)</tbody>", table.split("</table>")[0], re.DOTALL)
    assert f"<td>{mean}</td>" in body and "±" not in body
    results = dataclasses.replace(results, results=first)
    write_card(tmp_path / "card.md", results, evidence.load(m1))
    card = (tmp_path / "card.md").read_text()
    assert (
        f"| 8 | {mean} | – | 1 |" in card and "see the standard deviation" not in card
    )


def test_the_bound_is_said_to_be_of_the_images_that_it_is_of(m1, tmp_path):
    assert "ELBO of the test images" in written(tmp_path, m1).text
    rows = results_of(m1).results
    rows = [dataclasses.replace(row, protocol="cross_validation") for row in rows]
    assert "ELBO of the labeled images" in written(tmp_path, m1, results=rows).text


def test_a_model_is_told_in_words_even_one_that_is_not_known(m1, tmp_path):
    rows = results_of(m1).results
    rows = [dataclasses.replace(row, classifier="svm_student") for row in rows]
    assert "the two answer together" in written(tmp_path, m1, results=rows).text
    assert "The model m9." in written(tmp_path, m1, model="m9").text


def test_a_collapsed_model_is_named(m2, tmp_path):
    (row,) = results_of(m2).results
    vae = [figures_ | {"collapsed": i == 1} for i, figures_ in enumerate(row.vae)]
    shown = written(tmp_path, m2, results=[dataclasses.replace(row, vae=vae)])
    assert "Collapsed at 8 labels, splits 1:" in shown.text


def test_many_classes_are_shown_as_pairs(m1, tmp_path):
    found = dict(evidence.load(m1))
    counts = np.diag(np.full(30, 50)).astype(np.int32)
    counts[3, 7] = 25
    found |= {
        "confusion": counts,
        "class_names": np.array([f"k{i}" for i in range(30)]),
    }
    shown = written(tmp_path, m1, found)
    assert not [a for a in shown.all("table") if a.get("class") == "matrix"]
    assert "among 30 classes" in shown.text
    assert "k3 k7 25 33.3" in shown.text


def test_no_two_classes_share_a_color(m1, tmp_path):
    found = dict(evidence.load(m1))
    few = written(tmp_path, m1, found).text
    assert "have a color" not in few and "are gray" not in few
    labels = np.array([*range(12), *range(2, 12)], np.int32)  # 0 and 1 are the rarest
    found |= {
        "class_names": np.array([f"k{i}" for i in range(12)]),
        "plane_labels": labels,
        "plane": np.zeros([len(labels), 2], np.float32),
    }
    *colored, others = figures.clouds(found)
    assert [cloud.name for cloud in colored] == [f"k{i}" for i in range(2, 12)]
    assert [cloud.color for cloud in colored] == list(range(10))
    assert (others.name, others.color, len(others.at)) == ("all others", None, 2)
    chart = figures.plane_chart(found)
    assert "for each of the 10 most frequent classes" in chart.title
    assert len({mark.color for mark in chart.marks}) == 11
    assert "all others are gray" in written(tmp_path, m1, found).text
    (legend,) = pictures.latent_space(found).legends
    assert [text.get_text() for text in legend.get_texts()][-1] == "all others"


def test_more_rows_join_the_page_and_the_pictures_stay(small_data, copy):
    before = (copy / "report.npz").read_bytes()
    run_experiment(recipe("m1", labels=(20,)), copy, data_dir=small_data)
    assert (copy / "report.npz").read_bytes() == before
    text = Page(copy / "report.html").text
    assert "20 labels" in text and "Of the classifier with 40 labels" in text


def test_a_picture_that_fails_costs_no_numbers(small_data, copy, monkeypatch, caplog):
    def fail(*_):
        raise RuntimeError("out\nof memory")

    before = results_of(copy).results
    for name in ("results.json", "model_card.md", "reconstructions.png"):
        (copy / name).unlink()
    monkeypatch.setattr(gather, "_traversals", fail)
    monkeypatch.setattr(page, "_calibration", fail)
    monkeypatch.setattr("ssl_vae.report.save.write_card", fail)
    with caplog.at_level(logging.WARNING, "ssl_vae"):
        run_experiment(recipe("m1"), copy, data_dir=small_data)
    assert results_of(copy).results == before
    assert "no traversals: RuntimeError: out of memory" in caplog.text
    shown = Page(copy / "report.html")
    assert len(shown.absent) == 2
    assert "No traversals" in shown.text
    assert (copy / "reconstructions.png").exists()
    assert not (copy / "model_card.md").exists()


# Made anew, and compared.


def test_the_same_folder_gives_the_same_bytes_without_jax(copy):
    before = {n: (copy / n).read_bytes() for n in ("report.html", "model_card.md")}
    for name in before:
        (copy / name).unlink()
    code = (
        "import sys\n"
        "from ssl_vae.report.__main__ import run\n"
        "run()\n"
        "assert not {'jax', 'sklearn'} & set(sys.modules), 'slow imports'\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(copy)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(copy / name) for name in before]
    assert done.stderr == ""
    assert {n: (copy / n).read_bytes() for n in before} == before


def test_a_run_without_arrays_still_has_its_numbers(copy, tmp_path):
    (copy / "report.npz").unlink()
    path = tmp_path / "other.html"
    assert main([str(copy), f"--output={path}"]) == [path]
    shown = Page(path)
    assert "holds no report.npz" in shown.text
    assert "its command" in shown.text and len(shown.all("img")) == 0
    assert len(shown.absent) > 5


def test_runs_stand_side_by_side(m1, m2, tmp_path):
    path = tmp_path / "both.html"
    assert main([str(m1), str(m2), f"--output={path}"]) == [path]
    shown = Page(path)
    assert "first, second on corners" in shown.text
    for folder in (m1, m2):
        for row in results_of(folder).results:
            assert f"{100 * row.test_accuracy_mean:.2f}" in shown.text
        assert f"{results_of(folder).vae['test_elbo']:.2f}"[1:] in shown.text
    assert "model.name m1 m2" in shown.text
    assert "model.latent_dim" not in shown.text  # it is the same
    assert "its command" in shown.text and "another one" in shown.text
    assert "The same device and versions." in shown.text
    assert not shown.all("script")


def test_protocols_never_share_a_table(m1, copy, tmp_path):
    content = json.loads((copy / "results.json").read_text())
    for row in content["results"]:
        row["protocol"] = "cross_validation"
    (copy / "results.json").write_text(json.dumps(content))
    path = tmp_path / "both.html"
    main([str(m1), str(copy), f"--output={path}"])
    text = Page(path).text
    assert "Accuracy, inductive" in text and "Accuracy, cross validation" in text
    assert text.count("the best run in bold") == 2


def with_rows(folder, **changes):
    """The run in a folder, all of whose rows are changed."""
    content = json.loads((folder / "results.json").read_text())
    content["results"] = [row | changes for row in content["results"]]
    (folder / "results.json").write_text(json.dumps(content))


def compared(tmp_path, *folders):
    path = tmp_path / "both.html"
    main([*map(str, folders), f"--output={path}"])
    return Page(path).text


def test_the_best_run_is_so_over_the_choices_that_are_shared(m1, copy, tmp_path):
    first = results_of(m1).results[0].test_accuracy
    accuracy = [first[0] - 0.01, first[1] - 0.03, 1.0]
    changes = {"split_seeds": [0, 1, 2], "test_accuracy": accuracy}
    with_rows(copy, **changes, test_accuracy_mean=1.0)
    text = compared(tmp_path, m1, copy)
    assert "8 2 choices 40 2 choices" in text
    assert f"{50 * sum(accuracy[:2]):.2f}" in text and "−2.00 ± 12.71" in text


def test_a_page_says_where_no_choice_is_shared(m1, copy, tmp_path):
    with_rows(copy, split_seeds=[7, 8])
    text = compared(tmp_path, m1, copy)
    assert "8 no choice shared 40 no choice shared" in text
    assert text.count(" 2 choices") == 4 and "−" not in text.split("Models")[0]
    assert "<b>" not in (tmp_path / "both.html").read_text()


def test_a_page_marks_what_has_collapsed(m1, copy, tmp_path):
    vae = [{"collapsed": True}, {"collapsed": False}]
    with_rows(copy, vae=vae, test_accuracy_mean=1.0)
    text = compared(tmp_path, m1, copy)
    assert text.split("Models")[0].count("collapsed") == 2 + 1  # and in the note
    assert "<b>" not in (tmp_path / "both.html").read_text()


def test_runs_of_another_number_of_choices_say_so(m1, copy, tmp_path):
    content = json.loads((copy / "config.json").read_text())
    content["config"]["num_splits"] = 7
    (copy / "config.json").write_text(json.dumps(content))
    assert "num_splits 2 7" in compared(tmp_path, m1, copy)


@pytest.fixture
def other_data(copy):
    content = json.loads((copy / "results.json").read_text())
    content["dataset"] |= {"sha256": "b" * 64, "images_sha256": "c" * 64}
    (copy / "results.json").write_text(json.dumps(content))
    return copy


def test_runs_of_other_labels_are_not_said_to_be_of_other_images(m1, copy):
    content = json.loads((copy / "results.json").read_text())
    content["dataset"]["sha256"] = "b" * 64
    (copy / "results.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="of the same images as .* with other labels"):
        main([str(m1), str(copy)])


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "RUN"),
        (["nowhere"], "nowhere: no such folder"),
        (["a" * 300], "File name too long"),
        (["~nobody-of-that-name/run"], "no such folder"),
        (["{empty}"], "no finished run, it holds no results.json"),
        (["{m1}", "{m1}/."], "given twice"),
        (["{m1}", "{other}"], "compare runs of the same images"),
        (["{m1}", "--output=page.txt"], "--output=page.txt: a page's name ends with"),
        (["{m1}", "--output=no/page.html"], "there is no folder no"),
        (["{m1}", "--output={empty}/folder.html"], "a folder"),
        (["{m1}", "--colour=red"], "unrecognized arguments: --colour=red"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    m1, other_data, tmp_path, monkeypatch, args, message
):
    empty = tmp_path / "empty"
    (empty / "folder.html").mkdir(parents=True)
    monkeypatch.chdir(empty)
    places = {"m1": m1, "other": other_data, "empty": empty}
    before = sorted(tmp_path.rglob("*.html"))
    with pytest.raises(InputError) as error:
        main([arg.format(**places) for arg in args])
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert sorted(tmp_path.rglob("*.html")) == before


def test_the_command_exits_with_2_and_help_is_quick():
    command = [sys.executable, "-X", "importtime", "-m", "ssl_vae.report"]
    done = subprocess.run([*command, "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and "RUN" in done.stdout
    assert not any(name in done.stderr for name in (" jax", "numpy", "matplotlib"))
    command = [sys.executable, "-m", "ssl_vae.report", "nowhere"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "error: nowhere: no such folder\n"


# Arrays, pictures and charts.


def save_array(path: Path, **arrays):
    with path.open("wb") as file:
        np.savez(file, **arrays)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b"nothing of the kind"),
        lambda path: path.write_bytes(path.read_bytes()[:-200]),
        lambda path: save_array(path, plane=np.array([{}], dtype=object)),
        lambda path: save_array(path, plane=np.zeros([3, 2])),
        lambda path: save_array(path, plane=np.zeros(3, np.float32)),
        lambda path: save_array(path, stranger=np.zeros(3, np.float32)),
    ],
)
def test_a_file_that_is_not_a_reports_is_refused_by_name(copy, spoil):
    spoil(copy / "report.npz")
    with pytest.raises(InputError, match=r"report\.npz: not the arrays of a report"):
        evidence.load(copy)


def test_a_file_that_would_unpack_to_too_much_is_refused(copy, monkeypatch):
    monkeypatch.setattr(evidence, "MAX_BYTES", 1000)
    with pytest.raises(InputError, match="more than 1000 bytes"):
        evidence.load(copy)


def test_arrays_that_do_not_fit_together_cost_a_section_not_the_page(m1, tmp_path):
    found = dict(evidence.load(m1))
    found["mistakes"] = found["mistakes"][:0]
    found["plane_labels"] = found["plane_labels"][:3]
    assert len(written(tmp_path, m1, found).absent) == 2


@pytest.mark.parametrize(("channels", "mode"), [(1, "LA"), (2, "LA"), (3, "RGBA")])
def test_a_grid_of_images_keeps_every_pixel(channels, mode):
    rng = np.random.default_rng(0)
    grid = rng.integers(0, 256, [2, 3, 5, 4, channels]).astype(np.uint8)
    data = b64decode(images.data_uri(grid).removeprefix("data:image/png;base64,"))
    sheet = np.asarray(Image.open(io.BytesIO(data)))
    assert Image.open(io.BytesIO(data)).mode == mode
    assert sheet.shape[:2] == (2 * 6 - 1, 3 * 5 - 1)
    wanted = grid[1, 2] if channels != 2 else grid[1, 2].mean(axis=-1, keepdims=True)
    np.testing.assert_array_equal(sheet[6:, 10:, :-1], wanted.astype(np.uint8))
    assert sheet[5].max() == 0  # clear between the images


def test_large_images_are_made_small():
    images_ = np.full([2, 100, 50, 3], 7, np.uint8)
    assert gather._small(images_).shape == (2, evidence.SIDE, evidence.SIDE // 2, 3)
    assert np.all(gather._small(images_) == 7)


def test_the_chart_puts_more_accuracy_higher_and_more_labels_to_the_right():
    series = figures.Series(
        "run", "accent", [10, 1000], [0.5, 0.9], [0.1, 0.0], [[0.4, 0.6], [0.9]]
    )
    chart = figures.accuracy_chart([series], "test accuracy")
    paths = {mark.kind: mark.path for mark in chart.marks}
    (x0, y0), (x1, y1) = (p.split(" ") for p in paths["line"][1:].split("L"))
    assert float(x0) < float(x1) and float(y0) > float(y1)
    assert paths["split"].count("M") == 3
    low, high = chart.y([0.4, 0.6])
    assert f"{round(low, 1):g}" in paths["errors"]
    assert f"V{round(high, 1):g}" in paths["errors"]
    assert chart.y.low < 0.4 and chart.y.high > 0.9


def test_bars_of_runs_at_one_number_of_labels_stand_apart():
    one, two = (
        figures.Series(name, "accent", [10], [0.5], [0.1], [[0.4, 0.6]])
        for name in ("one", "two")
    )
    chart = figures.accuracy_chart([one, two], "test accuracy")
    first, second = (mark.path for mark in chart.marks if mark.kind == "dots")
    at = [float(path[1:].split(" ")[0]) for path in (first, second)]
    assert at[1] - at[0] == pytest.approx(figures.APART, abs=0.1)


def test_a_log_axis_names_only_what_there_is_room_for():
    axis = charts.log_axis("labels", [10, 10_000], [10, 11, 12, 100, 10_000])
    assert axis.names == ["10", "100", "10\N{NARROW NO-BREAK SPACE}000"]
    np.testing.assert_allclose(
        np.diff(axis([10, 100, 1000])), axis([100, 1000])[1] - axis([10, 100])[1]
    )


def test_bins_of_few_images_are_dots_apart_from_the_line():
    counts = np.array([0, 3, 10, 87])
    shares = np.array([0.0, 0.3, 0.6, 0.9])
    chart = figures.reliability_chart({"reliability": [counts, shares, shares]})
    kinds = [(mark.kind, mark.path.count("h0")) for mark in chart.marks]
    assert kinds[2:] == [("dots", 1), ("line", 0), ("dots", 2)]
    assert chart.marks[3].path.count("L") == 1
    none = figures.reliability_chart(
        {"reliability": [counts[:2], shares[:2], shares[:2]]}
    )
    assert [mark.kind for mark in none.marks] == ["bars", "rule", "dots"]


def test_an_axis_of_one_value_has_room_around_it():
    axis = charts.axis("loss", [3.0, 3.0])
    assert axis.low < 3 < axis.high
    assert np.isfinite(axis([3.0])).all()


def test_a_log_with_torn_and_alien_lines_is_read(tmp_path):
    lines = [json.dumps({"step": n, "loss": [5.0 - n, 4.0]}) for n in (1, 2, 3)]
    text = "\n".join([*lines, "[1]", '{"step": 4, "lo', '{"other": "x"}'])
    stage = tmp_path / "labels-600" / "splits-0-1"
    stage.mkdir(parents=True)
    (stage / "metrics.jsonl").write_text(text)
    (tmp_path / "metrics.jsonl").write_text("")
    whole = tmp_path / "labels-600" / "splits-all"
    whole.mkdir()
    (whole / "metrics.jsonl").write_text(lines[0])
    log, of_whole = losses.read_logs(Workdir(tmp_path))
    assert log.title == "600 labels, splits 0 to 1"
    assert of_whole.title == "600 labels, all of them"
    assert log.steps.tolist() == [1, 2, 3]
    assert log.metrics["loss"].tolist() == [[4, 4], [3, 4], [2, 4]]
    (chart,) = losses.loss_charts(log)
    assert len(chart.marks) == 2
