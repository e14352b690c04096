"""scikit-learn's own checks of the estimators, and our promises beyond them."""

import re
import subprocess
import sys

import jax
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import skops.io
from conftest import NUM_CLASSES, blobs
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC
from sklearn.utils.estimator_checks import (
    check_dataframe_column_names_consistency,
    check_set_output_transform,
    check_set_output_transform_pandas,
    check_transformer_get_feature_names_out,
    parametrize_with_checks,
)

from ssl_vae import fitting, inputs, semisupervised
from ssl_vae.classifiers import graph
from ssl_vae.classifiers.calibrated import CalibratedSVM
from ssl_vae.errors import InputError
from ssl_vae.estimators import SemiSupervisedVAEClassifier, VAEFeatures, load
from ssl_vae.semisupervised import WAYS

SMALL = {"latent_dim": 2, "hidden": (16,), "batch_size": 256, "learning_rate": 0.03}
FEATURES = VAEFeatures(**SMALL, num_epochs=30, random_state=0)
CLASSIFIER = SemiSupervisedVAEClassifier(**SMALL, num_epochs=30, random_state=0)
# The checks' images have as few as two pixels: the KL term must weigh little.
CHECKED = SMALL | {"num_epochs": 100, "kl_weight": 0.002}


@pytest.fixture(autouse=True, scope="module")
def compiled_fast():
    """These trainings take milliseconds, and what they take to compile is seconds."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="module")
def images():
    """60 images of four classes, floats in [0, 1], and y with three labels a class."""
    images, labels = blobs(60, seed=0)
    return images / 255, np.where(np.arange(60) < 3 * NUM_CLASSES, labels, -1), labels


@pytest.fixture(scope="module")
def fitted(images):
    return clone(CLASSIFIER).fit(*images[:2])


# What M1+M2 says of the noise that some checks are made of.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks(
    [
        VAEFeatures(**CHECKED),
        # "best" needs images, and the checks give rows of numbers.
        *(
            SemiSupervisedVAEClassifier(model, **CHECKED)
            for model in WAYS
            if model != "best"
        ),
    ]
)
def test_scikit_learn_agrees(estimator, check):
    check(estimator)


@pytest.mark.parametrize("model", WAYS)
def test_it_learns_from_few_labels(images, model):
    x, y, labels = images
    classifier = clone(CLASSIFIER).set_params(
        model=model, hidden=(64,), latent_dim=8, num_epochs=100, learning_rate=0.01
    )
    classifier.fit(x, y)
    assert classifier.score(x, labels) > 0.9
    assert np.mean(classifier.transduction_ == labels) > 0.9


@pytest.mark.parametrize("model", ["m1_graph", "best"])
def test_the_svms_guesses_have_the_labels_shares_of_the_classes(images, model):
    x, y, labels = images
    y = np.where(np.isin(np.arange(60), [12, 16, 20]), labels, y)  # six of the first
    found = clone(CLASSIFIER).set_params(model=model, num_epochs=2).fit(x, y).model_
    svm = CalibratedSVM(found["classifier"], found["temperature"], found["bias"])
    features = semisupervised.features(found, np.float32(x.reshape(60, -1)))
    shares = np.exp(svm.log_probs(features)).mean(axis=0)
    np.testing.assert_allclose(shares, [0.4, 0.2, 0.2, 0.2], atol=1e-3)


def test_features_of_digits_beat_chance_and_an_untrained_network():
    x, labels = load_digits(return_X_y=True)
    labeled = np.concatenate([np.flatnonzero(labels == k)[:10] for k in range(10)])
    rest = np.setdiff1d(np.arange(len(x)), labeled)
    y = np.full(len(x), -1)
    y[labeled] = labels[labeled]
    classifier = SemiSupervisedVAEClassifier(
        latent_dim=8,
        hidden=(128,),
        num_epochs=40,
        learning_rate=3e-3,
        random_state=0,
    )
    trained = classifier.fit(x, y).score(x[rest], labels[rest])
    untrained = classifier.set_params(num_epochs=1, learning_rate=1e-9).fit(x, y)
    assert trained > 0.75
    assert trained > untrained.score(x[rest], labels[rest]) + 0.05


def test_all_images_may_be_labeled(images):
    x, _, labels = images
    for model in WAYS:
        classifier = clone(CLASSIFIER).set_params(model=model, kl_weight=0.002)
        classifier.fit(x, labels)
        assert np.array_equal(classifier.transduction_, labels)


@pytest.mark.parametrize(
    "unlabeled", [lambda y: y, lambda y: y.astype("U")], ids=["-1", "text"]
)
def test_classes_may_have_names(images, unlabeled):
    x, y, _ = images
    names = np.array(["dress", "coat", "bag", "ankle boot"])
    named = unlabeled(np.array([names[k] if k >= 0 else -1 for k in y], object))
    classifier = clone(CLASSIFIER).fit(x, named)
    assert classifier.classes_.tolist() == sorted(names)
    assert set(classifier.predict(x)) <= set(names)
    assert classifier.transduction_[:12].tolist() == named[:12].tolist()
    assert classifier.score(x, named) == classifier.score(x[:12], names[y[:12]])


def test_minus_one_and_one_are_classes_where_there_is_no_other(images):
    x, _, labels = images
    y = np.where(labels == 0, -1, 1)
    with pytest.warns(UserWarning, match="both are taken for classes"):
        classifier = clone(CLASSIFIER).fit(x, y)
    assert classifier.classes_.tolist() == [-1, 1]
    assert classifier.score(x, y) == np.mean(classifier.predict(x) == y)


def test_the_score_is_that_of_the_labeled(images, fitted):
    x, y, labels = images
    assert fitted.score(x, y) == fitted.score(x[:12], labels[:12])
    weight = np.arange(60.0)
    right = fitted.predict(x) == labels
    expected = np.average(right[:12], weights=weight[:12])
    assert fitted.score(x, y, sample_weight=weight) == pytest.approx(expected)
    with pytest.raises(InputError, match="no labels to score by"):
        fitted.score(x, np.full(60, -1))


def test_labels_that_are_numpy_scalars_are_as_good_as_pythons():
    y = np.array(["cat", np.str_("dog"), -1, "cat", -1], object)
    classes, labels = inputs.encoded_labels(y)
    assert classes.tolist() == ["cat", "dog"]
    assert labels.tolist() == [0, 1, -1, 0, -1]
    _, labels = inputs.encoded_labels(np.array([3, np.int64(4), -1], object))
    assert labels.tolist() == [0, 1, -1]


@pytest.mark.parametrize(("shape", "size"), [("64", 24), ((8.7, 8), 64)])
def test_an_image_shape_of_other_things_than_whole_numbers_is_refused(shape, size):
    with pytest.raises(InputError, match=r"image_shape=.*: must be \(H, W\)"):
        inputs.checked_image_shape(shape, size)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([-1] * 6, "every y is -1"),
        ([3, -1, -1, 3, 3, -1], "one class alone, 3"),
        (np.array(["a", "b", None, None, "a", "b"], object), "None or an empty string"),
        (["a", "b", "", "", "a", "b"], "None or an empty string"),
        (np.array(["a", 1, -1, -1, "a", 1], object), "several kinds: int, str"),
        ([0.5, 1.5, 2.5, 0.1, 0.2, 0.3], "Unknown label type"),
        ([0, 1, 0], "inconsistent numbers of samples"),
    ],
)
def test_labels_that_will_not_do_get_a_clear_line(images, y, message):
    with pytest.raises(ValueError, match=message):
        clone(CLASSIFIER).fit(images[0][:6], y)


def test_two_labels_are_enough(images):
    x, labels = images[0], images[2]
    y = np.full(60, -1)
    y[:2] = labels[:2]
    assert clone(CLASSIFIER).fit(x, y).classes_.tolist() == [0, 1]


@pytest.mark.parametrize("shape", [(9,), (5, 7), (5, 7, 1), (6, 4, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_images_of_any_size_and_kind(shape, dtype):
    numbers = np.random.default_rng(0).integers(0, 256, [7, *shape])
    x = numbers.astype(np.uint8) if dtype == np.uint8 else numbers.astype(dtype) / 255
    features = clone(FEATURES).set_params(num_epochs=1).fit(x)
    z = features.transform(x)
    assert z.shape == (7, 2)
    assert z.dtype == np.float32
    restored = features.inverse_transform(z)
    assert restored.shape == x.shape
    assert 0 <= restored.min() <= restored.max() <= 1


def test_uint8_is_divided_by_255(images):
    x = np.rint(images[0] * 255).astype(np.uint8)
    features = clone(FEATURES).fit(x)
    assert features.pixel_range_ == (0, 1)
    assert np.allclose(features.transform(x), features.transform(x / 255), atol=1e-5)
    wide = clone(FEATURES).fit(np.concatenate([x, x[:1] * 0, x[:1] * 0 + 255]) * 1.0)
    assert wide.pixel_range_ == (0, 255)
    assert np.array_equal(wide.transform(x), wide.transform(x * 1.0))


def test_other_numbers_are_scaled_by_what_fit_saw(images):
    x = images[0] * 8 - 3
    features = clone(FEATURES).fit(x)
    assert features.pixel_range_ == pytest.approx((x.min(), x.max()))
    restored = features.inverse_transform(features.transform(x))
    assert np.mean((restored - x) ** 2) < np.var(x)
    with pytest.warns(UserWarning, match="scaled in another way"):
        features.transform(x * 50)


def test_images_of_another_size_are_refused(images, fitted):
    with pytest.raises(InputError, match="images of 4 x 16 x 1; expected are 8 x 8"):
        fitted.predict(images[0].reshape(60, 4, 16))
    rows = images[0].reshape(60, -1)
    assert np.array_equal(fitted.predict(rows), fitted.predict(images[0]))


def test_gradients_need_the_shape_of_rows(images):
    x = images[0]
    features = clone(FEATURES).set_params(gradient_weight=10.0)
    with pytest.raises(InputError, match=r"set image_shape=\(H, W\)"):
        features.fit(x.reshape(60, -1))
    with pytest.raises(InputError, match="product of 64"):
        clone(features).set_params(image_shape=(8, 7)).fit(x)
    rows = clone(features).set_params(image_shape=[8, 8]).fit(x.reshape(60, -1))
    assert np.array_equal(
        rows.transform(x.reshape(60, -1)), features.fit(x).transform(x)
    )


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"latent_dim": 0}, "latent_dim=0: must be a whole number"),
        ({"hidden": (8, 0)}, "hidden=(8, 0): must be a tuple"),
        ({"learning_rate": "fast"}, "learning_rate='fast': must be a number"),
        ({"batch_size": 1, "model": "m2"}, "batch_size=1: needs room"),
        ({"model": "m3"}, "model='m3': must be m1 or m1_graph or m2"),
        ({"learning_rate": 10.0, "kl_weight": 1000.0}, "learning_rate=10.0: the loss"),
    ],
)
def test_parameters_that_will_not_do_get_a_clear_line(images, parameters, message):
    classifier = clone(CLASSIFIER).set_params(**parameters)
    with pytest.raises(InputError, match=re.escape(message)):
        classifier.fit(images[0] * 1.0, images[1])


@pytest.mark.parametrize("model", ["m1_m2", "best"])
def test_a_batch_without_room_is_refused_before_m1_is_trained(
    images, model, monkeypatch
):
    monkeypatch.setattr(fitting, "train_params", lambda *_, **__: pytest.fail("M1"))
    classifier = clone(CLASSIFIER).set_params(model=model, batch_size=1)
    with pytest.raises(InputError, match="batch_size=1: needs room"):
        classifier.fit(images[0], images[1])


@pytest.mark.parametrize("model", ["m2", "m1_m2"])
def test_a_collapsed_model_warns(images, model):
    classifier = clone(CLASSIFIER).set_params(model=model, alpha=0.0, num_epochs=1)
    with pytest.warns(ConvergenceWarning, match=r"collapsed: .* try a larger alpha"):
        classifier.fit(*images[:2])


@pytest.mark.parametrize("needs", [{"model": "best"}, {"gradient_weight": 1.0}])
def test_rows_are_refused_where_images_are_needed(images, needs):
    x, y, _ = images
    rows = x.reshape(len(x), -1)
    classifier = clone(CLASSIFIER).set_params(**needs)
    with pytest.raises(InputError, match=r"needs images .* set image_shape="):
        classifier.fit(rows, y)
    classifier.set_params(image_shape=x.shape[1:]).fit(rows, y)


def test_the_graph_may_have_all_images_or_some(images, monkeypatch):
    x, y, labels = images
    classifier = clone(CLASSIFIER).set_params(model="m1_graph", kl_weight=0.002)
    few = classifier.fit(x[:4], labels[:4])  # fewer than the neighbors of an image
    assert np.array_equal(few.predict(x[:4]), labels[:4])
    monkeypatch.setattr(graph, "MAX_VERTICES", 30)
    some = classifier.fit(x, y)
    assert some.model_["vertices"].shape == (30, 2)
    assert some.score(x, labels) > 0.9


def test_sparse_input_is_refused(images):
    sparse = scipy.sparse.csr_array(images[0].reshape(60, -1))
    with pytest.raises(TypeError, match="dense data is required"):
        clone(FEATURES).fit(sparse)


def test_the_seed_alone_decides(images):
    x, y, _ = images
    one, same, other = (
        clone(CLASSIFIER).set_params(random_state=seed).fit(x, y).predict_proba(x)
        for seed in (1, 1, 2)
    )
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_what_comes_of_an_image_does_not_depend_on_the_others(images, fitted):
    x = np.tile(images[0], (10, 1, 1))  # more than one part
    assert np.array_equal(fitted.predict_proba(x)[-7:], fitted.predict_proba(x[-7:]))


def test_the_score_of_features_is_the_elbo(images):
    x = images[0]
    features = clone(FEATURES).fit(x)
    assert features.score(x) == features.score(x)
    # A coin for every pixel costs log 2 each.
    assert -x[0].size * np.log(2) < features.score(x) < 0
    brief = clone(FEATURES).set_params(num_epochs=1).fit(x)
    assert brief.score(x) < features.score(x)


def test_a_grid_search_over_a_pipeline_with_unlabeled_images(images):
    x, _, labels = images
    y = np.where(np.arange(60) < 40, labels, -1)
    pipeline = make_pipeline(clone(FEATURES), LogisticRegression())
    search = GridSearchCV(pipeline, {"vaefeatures__num_epochs": [2, 30]}, cv=2)
    assert search.fit(x, labels).best_score_ > 0.5
    search = GridSearchCV(clone(CLASSIFIER), {"C": np.array([0.1, 10.0])}, cv=2)
    assert search.fit(x.reshape(60, -1), y).best_score_ > 0.5


def test_features_come_with_names(images):
    features = clone(FEATURES).fit(images[0])
    assert list(features.get_feature_names_out()) == ["vaefeatures0", "vaefeatures1"]
    check_set_output_transform("VAEFeatures", features)
    check_transformer_get_feature_names_out("VAEFeatures", features)


# The last check fits with names and transforms without, and the other way about.
@pytest.mark.filterwarnings("ignore:X .*feature names")
def test_data_frames_come_in_and_go_out():
    for estimator in clone(FEATURES), clone(CLASSIFIER):
        check_dataframe_column_names_consistency("estimator", estimator)
    check_set_output_transform_pandas("VAEFeatures", clone(FEATURES))


def test_features_can_be_a_data_frame_with_the_index_of_the_images(images):
    x = images[0].reshape(60, -1)
    frame = pd.DataFrame(x, index=[f"photo {i}" for i in range(60)])
    frame.columns = [f"pixel {i}" for i in range(x.shape[1])]
    features = clone(FEATURES).set_output(transform="pandas").fit(frame)
    given = features.transform(frame)
    assert list(given.columns) == ["vaefeatures0", "vaefeatures1"]
    assert given.index.equals(frame.index)
    plain = features.set_output(transform="default").transform(frame)
    assert np.array_equal(given.to_numpy(), plain)


@pytest.mark.parametrize("model", WAYS)
def test_a_saved_classifier_says_the_same(images, tmp_path, model):
    x, y, labels = images
    names = np.array(["coat", "bag", "dress", "boot"])
    classifier = clone(CLASSIFIER).set_params(model=model, kl_weight=0.002)
    classifier.fit(x, np.array([names[k] if k >= 0 else -1 for k in y], object))
    path = tmp_path / "classifier.skops"
    classifier.save(path)
    assert skops.io.get_untrusted_types(file=path) == [
        "ssl_vae.estimators.SemiSupervisedVAEClassifier"
    ]
    again = load(path)
    assert np.array_equal(again.predict_proba(x), classifier.predict_proba(x))
    assert again.predict(x).tolist() == classifier.predict(x).tolist()
    assert again.get_params() == classifier.get_params()


def test_saved_features_are_the_same(images, tmp_path):
    features = clone(FEATURES).fit(images[0])
    features.save(tmp_path / "features.skops")
    again = load(str(tmp_path / "features.skops"))
    z = features.transform(images[0])
    assert np.array_equal(again.transform(images[0]), z)
    assert again.inverse_transform(z).shape == images[0].shape


def test_other_files_are_refused(tmp_path, fitted):
    path = tmp_path / "file.skops"
    with pytest.raises(InputError, match="no saved estimator: .*No such file"):
        load(path)
    path.write_text("text")
    with pytest.raises(InputError, match="no saved estimator"):
        load(path)
    skops.io.dump(SVC(), path)
    with pytest.raises(InputError, match="holds a SVC"):
        load(path)
    skops.io.dump(subprocess.Popen, path)
    with pytest.raises(InputError, match="holds what no estimator does"):
        load(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ssl_vae.estimators.MAX_BYTES", 1000)
        fitted.save(path)
        with pytest.raises(InputError, match="unpacks to"):
            load(path)


def test_importing_the_package_imports_no_jax():
    code = "import ssl_vae, sys; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
