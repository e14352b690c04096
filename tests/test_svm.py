import itertools
import pickle

import numpy as np
import pytest
import sklearn.model_selection
import skops.io
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC

from ssl_vae.classifiers import svm
from ssl_vae.errors import InputError


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3, dtype=np.int32), 20)
    scales = np.array([1, 100], np.float32)
    features = scales * rng.normal(labels[:, None], 0.5, (60, 2)).astype(np.float32)
    return features, labels


def test_without_scaling_it_is_scikit_learns_rbf_svm(data):
    ours = svm.fit_svm(*data, C=2.0, standardize=False)
    theirs = SVC(kernel="rbf", C=2.0, gamma="scale").fit(*data)
    np.testing.assert_array_equal(ours.predict(data[0]), theirs.predict(data[0]))


def test_with_scaling_the_units_of_a_feature_do_not_matter(data):
    features, labels = data
    shrunk = svm.fit_svm(features, labels, C=1.0, standardize=True)
    blown_up = svm.fit_svm(features * [1000, 1], labels, C=1.0, standardize=True)
    np.testing.assert_allclose(
        shrunk.decision_function(features),
        blown_up.decision_function(features * [1000, 1]),
        atol=1e-3,
    )


def test_it_learns_from_moved_images_too_at_the_settings_of_the_others(data):
    features, labels = data
    moved = np.stack([features + 0.5, features - 0.5])
    both = np.concatenate([features, features + 0.5, features - 0.5])
    theirs = SVC(kernel="rbf", C=2.0, gamma="scale").fit(both, np.tile(labels, 3))
    ours = svm.fit_svm(features, labels, C=2.0, standardize=False, moved=moved)
    np.testing.assert_array_equal(ours[-1].dual_coef_, theirs.dual_coef_)
    settings = {"C": 1.0, "standardize": False, "cross_validate": True}
    board = checkerboard(200, seed=0)
    alone = svm.fit_svm(*board, **settings)
    with_more = svm.fit_svm(*board, **settings, moved=board[0][None] + 100)
    assert with_more[-1].gamma == alone[-1].gamma != "scale"


def checkerboard(num, seed):
    """Points of a board of 4 x 4 squares, and their colors, 0 or 1."""
    points = np.random.default_rng(seed).uniform(0, 4, (num, 2))
    return points, (points.astype(int).sum(axis=1) % 2).astype(np.int32)


@pytest.mark.parametrize("standardize", [True, False])
def test_cross_validation_finds_a_narrower_kernel_where_it_is_needed(standardize):
    settings = {"C": 1.0, "standardize": standardize}
    given = svm.fit_svm(*checkerboard(200, seed=0), **settings)
    found = svm.fit_svm(*checkerboard(200, seed=0), **settings, cross_validate=True)
    new = checkerboard(1000, seed=1)
    assert found.score(*new) > given.score(*new) + 0.05
    points = checkerboard(200, seed=0)[0]
    variance = 1.0 if standardize else points.var()
    np.testing.assert_allclose(found[-1].gamma, 3 / (2 * variance))


def test_cross_validation_keeps_what_it_is_given_where_all_are_as_good(data):
    fitted = svm.fit_svm(*data, C=2.0, standardize=True, cross_validate=True)
    assert (fitted[-1].C, fitted[-1].gamma) == (2.0, "scale")


def test_folds_of_the_same_few_labels_are_not_taken_for_independent():
    """Else nearly every draw of overlapping classes would be given other settings."""
    departures = 0
    for seed in range(12):
        draw, labels = np.random.default_rng(seed), np.repeat(np.arange(4), 6)
        centers = draw.normal(size=(4, 5))
        features = centers[labels] + draw.normal(size=(24, 5))
        pipeline = make_pipeline(SVC(C=2.0, gamma="scale"))
        departures += bool(svm.better_settings(pipeline, features, labels))
    assert departures <= 2


@pytest.mark.parametrize(("part", "departs"), [(0.98, False), (1.02, True)])
def test_other_settings_must_be_better_by_the_corrected_error(
    part, departs, monkeypatch
):
    folds, repeats = 3, 5  # of 200 labels
    gain = np.random.default_rng(0).normal(size=folds * repeats)
    gain = (gain - gain.mean()) / gain.std(ddof=1)  # of deviation 1
    gain = 0.01 * (gain + part * np.sqrt(1 / (folds * repeats) + 1 / (folds - 1)))

    class Search:
        def __init__(self, _, grid, **__):
            self.params = [
                dict(zip(grid, v, strict=True))
                for v in itertools.product(*grid.values())
            ]

        def fit(self, *_):
            scores = np.full([9, folds * repeats], 0.4)
            scores[4], scores[8] = 0.5, 0.5 + gain
            splits = {f"split{i}_test_score": s for i, s in enumerate(scores.T)}
            self.cv_results_ = {"params": self.params} | splits

    monkeypatch.setattr(sklearn.model_selection, "GridSearchCV", Search)
    pipeline = make_pipeline(SVC(C=2.0, gamma="scale"))
    found = svm.better_settings(pipeline, *checkerboard(200, seed=0))
    assert found.get("svc__C") == (6.0 if departs else None)


def test_one_label_a_class_is_too_few_for_cross_validation(data):
    features, labels = data[0][::20], data[1][::20]
    fitted = svm.fit_svm(
        features, labels, C=2.0, standardize=False, cross_validate=True
    )
    assert (fitted[-1].C, fitted[-1].gamma) == (2.0, "scale")


@pytest.mark.parametrize("num_labels, repeats", [(8, 20), (100, 10), (600, 2)])
def test_the_fewer_the_labels_the_more_repeats_up_to_a_limit(
    num_labels, repeats, monkeypatch
):
    asked = []

    class Folds:
        def __init__(self, *, n_repeats, **_):
            asked.append(n_repeats)
            raise StopIteration  # that is all that is asked here

    monkeypatch.setattr(sklearn.model_selection, "RepeatedStratifiedKFold", Folds)
    features, labels = checkerboard(num_labels, seed=0)
    settings = {"C": 1.0, "standardize": False, "cross_validate": True}
    with pytest.raises(StopIteration):
        svm.fit_svm(features, labels, **settings)
    assert asked == [repeats]


def test_a_saved_classifier_predicts_the_same(data, tmp_path):
    fitted = svm.fit_svm(*data, C=1.0, standardize=True)
    svm.save_svm(fitted, tmp_path / "classifier.skops")
    loaded = svm.load_svm(tmp_path / "classifier.skops")
    np.testing.assert_array_equal(
        loaded.decision_function(data[0]), fitted.decision_function(data[0])
    )
    assert [p.name for p in tmp_path.iterdir()] == ["classifier.skops"]


class Stranger:
    """A type that has no place in a classifier's file."""


def test_a_file_with_another_type_is_refused(tmp_path):
    skops.io.dump(Stranger(), tmp_path / "classifier.skops")
    with pytest.raises(InputError, match="Untrusted types found .*Stranger"):
        svm.load_svm(tmp_path / "classifier.skops")


def test_a_pickle_is_refused(tmp_path):
    (tmp_path / "classifier.skops").write_bytes(pickle.dumps({}))
    with pytest.raises(InputError, match="not a zip file"):
        svm.load_svm(tmp_path / "classifier.skops")
