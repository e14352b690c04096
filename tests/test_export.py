"""Classifiers in other formats, against the runs that they are of."""

import json
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
import pytest
import safetensors
from conftest import OWN, blobs

import ssl_vae
from ssl_vae.errors import InputError
from ssl_vae.export import formats, onnx_graph
from ssl_vae.export.__main__ import main
from ssl_vae.results import Results

TOLERANCE = 2e-5  # of a probability; scikit-learn's own are float64
ALL = {"weights.safetensors", "classifier.jax", "classifier.onnx", "export.json"}


@pytest.fixture(scope="module", params=OWN)
def exported(request, finished, tmp_path_factory):
    """A run's classifier, and the folder with all of its formats."""
    workdir, folder = finished(request.param), tmp_path_factory.mktemp("export")
    assert main([f"--workdir={workdir}", f"--output={folder}"]) == 0
    return ssl_vae.load(workdir), folder


def test_jax_gives_the_probabilities_of_the_run(exported):
    classifier, folder = exported
    content = (folder / "classifier.jax").read_bytes()
    function = jax.export.deserialize(bytearray(content))
    assert set(function.platforms) == {"cpu", "cuda", "tpu"}
    for num_images in (1, 9):
        images = blobs(num_images, seed=7)[0][..., None]
        found = function.call(images)
        assert found.dtype == np.float32
        expected = classifier.predict_proba(images)
        np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)


def test_onnx_gives_the_probabilities_of_the_run(exported):
    classifier, folder = exported
    content = (folder / "classifier.onnx").read_bytes()
    onnx.checker.check_model(content, full_check=True)
    session = onnxruntime.InferenceSession(content)
    for num_images in (1, 9):
        images = blobs(num_images, seed=7)[0][..., None]
        (found,) = session.run(["probs"], {"images": images})
        expected = classifier.predict_proba(images)
        np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)


def test_safetensors_holds_all_weights_by_name(exported):
    classifier, folder = exported
    with safetensors.safe_open(folder / "weights.safetensors", "numpy") as file:
        assert json.loads(file.metadata()["class_names"]) == ["0", "1", "2", "3"]
        assert json.loads(file.metadata()["image_shape"]) == [8, 8, 1]
        assert len(file.keys()) == len(jax.tree.leaves(classifier.weights))
        for name in file.keys():  # noqa: SIM118 (not a dict)
            expected = classifier.weights
            for part in name.split("."):
                expected = expected[part]
            found = file.get_tensor(name)
            assert found.dtype == np.asarray(expected).dtype
            np.testing.assert_array_equal(found, expected)


def test_the_files_say_what_the_classifier_is(exported):
    classifier, folder = exported
    about = json.loads((folder / "export.json").read_text())
    assert tuple(about["class_names"]) == classifier.class_names
    assert tuple(about["image_shape"]) == classifier.image_shape
    assert about["labels"] == classifier.num_labels
    model = onnx.load(folder / "classifier.onnx")
    notes = {note.key: note.value for note in model.metadata_props}
    assert notes == formats.as_text(about)
    (images,), (probs,) = model.graph.input, model.graph.output
    sizes = [d.dim_param or d.dim_value for d in images.type.tensor_type.shape.dim]
    assert (images.name, sizes) == ("images", ["N", 8, 8, 1])
    sizes = [d.dim_param or d.dim_value for d in probs.type.tensor_type.shape.dim]
    assert (probs.name, sizes) == ("probs", ["N", 4])


def test_the_accuracy_of_an_export_is_that_of_its_own_classifier(finished, tmp_path):
    arguments = [f"--workdir={finished('m1')}", "--format=safetensors"]
    assert main([*arguments, f"--output={tmp_path}"]) == 0
    about = json.loads((tmp_path / "export.json").read_text())
    (row,) = Results.of_finished_run(finished("m1")).results
    assert len(row.test_accuracy) == about["splits"] == 2
    assert about["accuracy"] == row.test_accuracy[0]
    assert about["accuracy_mean"] == row.test_accuracy_mean


def test_an_onnx_model_has_only_what_its_probabilities_depend_on(exported):
    _, folder = exported
    graph = onnx.load(folder / "classifier.onnx").graph
    used = {name for node in graph.node for name in node.input} | {"probs"}
    assert all(used.intersection(node.output) for node in graph.node)
    assert {constant.name for constant in graph.initializer} <= used


def test_without_an_output_folder_it_is_one_of_the_run(finished, tmp_path, capsys):
    shutil.copytree(finished("m1"), tmp_path / "run")
    folder = tmp_path / "run" / "export"
    assert main([f"--workdir={tmp_path}/run", "--format=safetensors"]) == 0
    printed = [f"{folder}/weights.safetensors", f"{folder}/export.json"]
    assert capsys.readouterr().out.splitlines() == printed
    assert {path.name for path in folder.iterdir()} == {
        "weights.safetensors",
        "export.json",
    }


def test_a_second_export_replaces_the_first_and_nothing_else(finished, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for name in ALL:
        (tmp_path / name).write_text('{"format": "ssl_vae export"}')
    arguments = [f"--workdir={finished('m1')}", f"--output={tmp_path}"]
    assert main([*arguments, "--format=safetensors"]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {
        "notes.txt",
        "weights.safetensors",
        "export.json",
    }
    assert "recipe" in json.loads((tmp_path / "export.json").read_text())


@pytest.mark.parametrize("name", sorted(ALL))
def test_a_file_of_somebody_else_is_not_replaced(name, finished, tmp_path, capsys):
    (tmp_path / name).write_text("{}")
    assert main([f"--workdir={finished('m1')}", f"--output={tmp_path}"]) == 2
    error = capsys.readouterr().err
    assert f"{name} is there" in error and error.count("\n") == 1
    assert [path.read_text() for path in tmp_path.iterdir()] == ["{}"]


def test_a_folder_that_cannot_be_is_refused(finished, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for where in ("file", "file/below"):
        arguments = [f"--workdir={finished('m1')}", f"--output={tmp_path / where}"]
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert f"--output={tmp_path / where}: " in error and error.count("\n") == 1


def test_a_missing_package_is_named_with_the_way_to_get_it(
    finished, tmp_path, capsys, monkeypatch
):
    monkeypatch.setitem(sys.modules, "onnx", None)
    arguments = [f"--workdir={finished('m1')}", f"--output={tmp_path / 'new'}"]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert "--format=onnx" in error and "pip install 'ssl_vae[export]'" in error
    assert error.count("\n") == 1 and not (tmp_path / "new").exists()
    monkeypatch.delitem(sys.modules, "ssl_vae.export.formats")
    monkeypatch.delattr("ssl_vae.export.formats")
    assert main([*arguments, "--format=safetensors"]) == 0


def test_a_folder_without_a_finished_run_is_refused_before_jax_is_there(tmp_path):
    code = (
        "import sys; from ssl_vae.export.__main__ import main;"
        f" assert main(['--workdir={tmp_path}']) == 2;"
        " assert 'jax' not in sys.modules and 'sklearn' not in sys.modules"
    )
    process = [sys.executable, "-c", code]
    done = subprocess.run(process, check=True, timeout=60, capture_output=True)
    assert b"no finished run is there" in done.stderr


@pytest.mark.parametrize(
    "function, name",
    [
        (lambda x: x.cumsum(axis=1), "cumsum"),
        (lambda x: jax.lax.batch_matmul(x[:, None], x[..., None]), "dot_general"),
        (lambda x: x[np.array([0, 1]), np.array([1, 2])], "gather"),
    ],
)
def test_an_operation_that_onnx_cannot_be_given_is_refused(function, name):
    traced = jax.make_jaxpr(function)(jnp.ones([2, 3]))
    with pytest.raises(InputError, match=f"--format=onnx: .* {name}; use --format=jax"):
        onnx_graph.model(traced, "x", "y", {})


def test_the_largest_are_found_of_what_is_known_and_of_what_is_given():
    known = jnp.array([3.0, 1.0, 2.0, 5.0])

    def function(x):
        values, places = jax.lax.top_k(x, 2)
        best, _ = jax.lax.top_k(known, 2)
        return values + best + places.astype(jnp.float32)

    x = np.array([[1.0, 4.0, 2.0, 0.0], [7.0, 5.0, 6.0, 9.0]], np.float32)
    traced = jax.make_jaxpr(jax.vmap(function))(jnp.asarray(x))
    session = onnxruntime.InferenceSession(onnx_graph.model(traced, "x", "y", {}))
    (found,) = session.run(["y"], {"x": x})
    np.testing.assert_array_equal(found, [[10, 7], [17, 10]])
