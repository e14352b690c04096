import dataclasses
import json

import pytest

from ssl_vae.datasets.known import CANONICAL_SHA256
from ssl_vae.errors import InputError
from ssl_vae.report import words
from ssl_vae.results import Results, Row


def row(labels, accuracy):
    return Row(labels, "svm_rbf", "inductive", [0, 1], [accuracy] * 2, accuracy, 0.0125)


RESULTS = Results(
    format_version=1,
    recipe="m1",
    model="m1",
    seed=42,
    dataset={"name": "corners", "train": 400, "test": 80, "sha256": "aa"},
    vae={"latent_dim": 4, "active_units": 3, "test_elbo": -12.5},
    results=[row(8, 0.5), row(100, 0.75)],
    seconds={"total": 1.5},
    device="cpu x1",
    versions={"jax": "0"},
    command="python -m ssl_vae.main",
)


ONE = dataclasses.asdict(RESULTS.results[0])
EMPTY = ONE | {"split_seeds": [], "test_accuracy": []}


def test_a_saved_file_comes_back_equal(tmp_path):
    RESULTS.save(tmp_path / "results.json")
    assert Results.load(tmp_path / "results.json") == RESULTS


def test_where_there_is_no_file_there_are_no_results(tmp_path):
    assert Results.load(tmp_path / "results.json") is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 2, "new": 1}, "format_version is 2, this version"),
        ({"format_version": None}, "format_version is None"),
        ({"results": [{"labels": 8}]}, "not a results file"),
        ({"results": 3}, "not a results file"),
        ({"stranger": 1}, "not a results file"),
        ({"results": [ONE | {"split_seeds": [0]}]}, "an accuracy for every split"),
        ({"results": [EMPTY]}, "an accuracy for every split"),
        ({"results": [ONE | {"split_seeds": [0, 0]}]}, "a split twice"),
        ({"results": [ONE | {"test_accuracy_mean": 5.0}]}, "not from 0 to 1"),
        ({"results": [ONE | {"test_accuracy": [0.5, float("nan")]}]}, "NaN is no"),
        ({"results": [ONE | {"calibration": [{}]}]}, "without its error"),
        ({"evaluate_on": "<b>"}, "evaluate_on is '<b>'"),
        ({"evaluate_on": None}, "evaluate_on is not"),
        (
            {"dataset": RESULTS.dataset | {"image_shape": [8, 8]}},
            r"image_shape is \[8, 8\]",
        ),
        ({"dataset": RESULTS.dataset | {"image_shape": [8, 0, 1]}}, "image_shape is "),
    ],
)
def test_a_file_of_another_form_is_refused_by_name(tmp_path, change, message):
    path = tmp_path / "results.json"
    path.write_text(json.dumps(dataclasses.asdict(RESULTS) | change))
    with pytest.raises(InputError, match=message) as error:
        Results.load(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": 1}'])
def test_a_file_that_is_no_results_at_all_is_refused(tmp_path, text):
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(InputError, match=r"results\.json: "):
        Results.load(tmp_path / "results.json")


def test_the_table_shows_the_rows_asked_for_in_percent():
    lines = RESULTS.table([100]).splitlines()
    assert "reference" not in lines[0]
    assert [line.split() for line in lines[1:]] == [
        ["100", "4", "svm_rbf", "75.00", "1.25", "2"]
    ]
    assert len(RESULTS.table([8, 100]).splitlines()) == 3


def test_one_split_has_no_deviation():
    one = Row.measured(8, "svm_rbf", {0: 0.5}, protocol="inductive")
    line = dataclasses.replace(RESULTS, results=[one]).table([8]).splitlines()[1]
    assert line.split() == ["8", "4", "svm_rbf", "50.00", "-", "1"]


def test_the_reported_reference_stands_only_beside_the_real_data_set():
    real = dataclasses.replace(
        RESULTS, dataset={"name": "any", "sha256": CANONICAL_SHA256["fashion_mnist"]}
    )
    lines = real.table([8, 100]).splitlines()
    assert lines[0].endswith("reported reference %")
    assert lines[1].split()[-1] == "-"
    assert lines[2].split()[-1] == "64.82"


def test_a_validation_run_does_not_call_its_accuracy_test_accuracy():
    held_out = dataclasses.replace(
        RESULTS, dataset={"name": "corners-validation", "sha256": "bb"}
    )
    assert "validation accuracy %" in held_out.table([8])
    assert "test accuracy" not in held_out.table([8])


def test_a_data_set_of_ones_own_may_be_called_validation(tmp_path):
    named = {"name": "my-validation", "sha256": "bb"}
    results = dataclasses.replace(RESULTS, dataset=named, evaluate_on="test")
    assert "test accuracy %" in results.table([8])
    assert words.images(results) == "test images"
    path, content = tmp_path / "results.json", dataclasses.asdict(results)
    del content["evaluate_on"]  # as an earlier version left it: the name tells
    path.write_text(json.dumps(content))
    earlier = Results.load(path)
    assert "validation accuracy %" in earlier.table([8])
    assert words.images(earlier) == "validation images"


def test_the_kept_classifier_is_of_the_first_choice_and_of_the_first_vae():
    one = dataclasses.replace(row(8, 0.5), test_accuracy=[0.25, 0.75])
    assert one.accuracy_of_kept == 0.25
    several = dataclasses.replace(one, accuracy_of_seeds=[[0.125, 0.5], [0.375, 1.0]])
    assert several.accuracy_of_kept == 0.125


def test_a_classifier_with_all_labels_has_no_accuracy_of_its_own():
    folds = dataclasses.replace(row(8, 0.5), protocol="cross_validation")
    assert folds.accuracy_of_kept is None
    of_first_fold = dataclasses.replace(folds, vae=[{"collapsed": False}] * 2)
    assert of_first_fold.accuracy_of_kept == 0.5
