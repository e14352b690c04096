import pytest
from ml_collections import ConfigDict

from ssl_vae import config as recipes
from ssl_vae.errors import InputError

RECIPES = sorted(p.stem for p in recipes.recipe_path("m1").parent.glob("*.py"))


@pytest.fixture
def config():
    return recipes.load(recipes.recipe_path("m1"))


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_valid_and_named_after_its_file(name):
    config = recipes.load(recipes.recipe_path(name))
    recipes.validate(config)
    assert config.recipe == name


def test_the_default_recipe_is_the_reported_system(config):
    assert config.model.to_dict() == {
        "name": "m1",
        "latent_dim": 10,
        "hidden": (600, 600),
        "kl_weight": 1.0,
        "gradient_weight": 0.0,
        "dtype": "float32",
    }
    assert config.seed == 42


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("model.latent_dim", 0, "whole number from 1"),
        ("model.hidden", (600, 0), "tuple of whole numbers"),
        ("model.hidden", (), "tuple of whole numbers"),
        ("model.kl_weight", -0.1, "number from 0"),
        ("train.learning_rate", 0.0, "number above 0"),
        ("train.learning_rate", float("nan"), "number above 0"),
        ("train.num_epochs", 0, "whole number from 1"),
        ("seed", -1, "whole number from 0"),
        ("model.name", "m7", "m1 or m2 or m1_m2"),
        ("importance_samples", 0, "whole number from 1"),
        ("train.schedule", "linear", "'constant' or 'cosine'"),
        ("train.kl_warmup", 5, "a number from 0 and up to 1"),
        ("model.dtype", "float16", "'float32' or 'bfloat16'"),
        ("recipe", "../m1", "letters, digits"),
        ("evaluate_on", "train", "'test' or 'validation'"),
    ],
)
def test_values_out_of_range_are_refused_by_name(config, field, value, rule):
    config.update_from_flattened_dict({field: value})
    with pytest.raises(InputError, match=rule) as error:
        recipes.validate(config)
    assert f"--config.{field}=" in str(error.value)


def test_an_unknown_field_is_refused_with_the_nearest_name(config):
    with config.unlocked():
        config.model.latent_dims = 3
    with pytest.raises(InputError, match=r"did you mean --config\.model\.latent_dim\?"):
        recipes.validate(config)


def test_a_missing_field_is_refused(config):
    with config.unlocked():
        del config.train.batch_size
    with pytest.raises(
        InputError, match=r"--config\.train\.batch_size: the recipe does"
    ):
        recipes.validate(config)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", "defines no get_config"),
        ("def get_config():\n  return {}", "returned a dict"),
        ("def get_config():\n  return 1 / 0", "raised ZeroDivisionError"),
        ("def get_config(:", "raised SyntaxError"),
        ("import no_such_module", "raised ModuleNotFoundError"),
    ],
)
def test_a_bad_recipe_file_is_refused_in_one_line(tmp_path, text, message):
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as error:
        recipes.load(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_recipe_file_is_refused_with_those_there_are(tmp_path):
    with pytest.raises(InputError, match="no such file, .*: best, m1, m1_features"):
        recipes.load(tmp_path / "m1.py")


def test_a_recipe_smooths_or_teaches():
    both = recipes.load(recipes.recipe_path("best"))
    with both.unlocked():
        both.graph = recipes.load(recipes.recipe_path("m1_graph")).graph
    with pytest.raises(InputError, match="group student or a group graph, not both"):
        recipes.validate(both)


@pytest.mark.parametrize("said", ["m2", "configs/m2.py"])
def test_a_recipe_of_the_project_is_found_by_name_in_any_folder(
    said, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert recipes.load(said).recipe == "m2"
    (tmp_path / "m2").mkdir()  # a folder of that name is not meant
    assert recipes.load(said).recipe == "m2"


def test_a_file_of_ones_own_goes_before_a_recipe_of_its_name(tmp_path, monkeypatch):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "m2.py").write_text(
        recipes.recipe_path("m2").read_text().replace('"m2"', '"mine"', 1)
    )
    monkeypatch.chdir(tmp_path)
    assert recipes.load("configs/m2.py").recipe == "mine"
    assert recipes.load("m2").recipe == "m2"


@pytest.mark.parametrize("said", ["m2.py", "configs/m2", "other/m2.py", "", "configs/"])
def test_any_other_name_is_that_of_a_file(said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="no such file"):
        recipes.load(said)


def test_differences_name_the_field_and_both_values(config):
    old, new = config.to_dict(), ConfigDict(config).to_dict()
    assert recipes.differences({"config": old}, {"config": new}) == []
    new["model"] = dict(new["model"], latent_dim=50)
    new["labels"] = (10,)  # rows of results do not make another run
    assert recipes.differences({"config": old}, {"config": new}) == [
        "model.latent_dim is 10 there and 50 here"
    ]


@pytest.mark.parametrize("name", ["m1", "m1_m2"])
def test_a_recipe_from_before_a_field_came_means_what_it_did(name):
    now = recipes.load(recipes.recipe_path(name))
    before = ConfigDict(now.to_dict())
    group = before.model if name == "m1" else before.m1.model
    del group.dtype
    recipes.validate(before)
    old, new = {"config": before.to_dict()}, {"config": now.to_dict()}
    assert recipes.differences(old, new) == recipes.differences(new, old) == []
    (now.model if name == "m1" else now.m1.model).dtype = "bfloat16"
    [unlike] = recipes.differences(old, {"config": now.to_dict()})
    assert unlike.endswith("model.dtype is 'float32' there and 'bfloat16' here")


def test_the_same_images_from_another_place_are_no_other_run(config):
    old, new = (
        {"config": config.to_dict() | {"dataset": f"folder:{place}"}, "dataset": data}
        for place, data in (
            ("/here", {"sha256": "aa"}),
            ("/there", {"sha256": "aa", "class_names": ["a", "b"]}),
        )
    )
    assert recipes.differences(old, new) == []
    new["dataset"] = {"sha256": "bb"}
    assert recipes.differences(old, new) == [
        "dataset.sha256 is 'aa' there and 'bb' here"
    ]


@pytest.mark.parametrize(
    "dataset", ["folder:a b/c", "npz:~/x.npz", "tfds:emnist/letters", "digits"]
)
def test_data_of_ones_own_may_be_named(config, dataset):
    config.dataset = dataset
    recipes.validate(config)


@pytest.mark.parametrize("dataset", ["a/b", "folder:", "files:x", "tfds:a b", ""])
def test_other_names_of_data_are_refused_with_the_forms_there_are(config, dataset):
    config.dataset = dataset
    with pytest.raises(InputError, match=r"--config\.dataset=.*folder:DIR or npz:FILE"):
        recipes.validate(config)


@pytest.fixture
def m2():
    return recipes.load(recipes.recipe_path("m2"))


def test_up_to_few_labels_the_fields_of_the_group_few_hold(m2):
    m2.few.labels, m2.few.model.hidden, m2.model.hidden = 100, (3,), (5,)
    assert recipes.at(m2, 100).model.hidden == (3,)
    assert recipes.at(m2, 110).model.hidden == (5,)
    assert "few" not in recipes.at(m2, 100)
    assert m2.model.hidden == (5,)


def test_a_recipe_without_few_is_the_same_for_all_numbers_of_labels(config):
    assert recipes.at(config, 100).to_dict() == config.to_dict()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("few.model.hidden", (0,), r"few\.model\.hidden=\(0,\): must be a tuple"),
        ("few.labels", -1, r"few\.labels=-1: must be a whole"),
        ("model.alpha", -1.0, r"model\.alpha=-1\.0: must be a number"),
        ("train.labeled_batch_size", 0, r"labeled_batch_size=0: must be a whole"),
    ],
)
def test_fields_of_models_that_learn_labels_are_checked(m2, field, value, message):
    m2.update_from_flattened_dict({field: value})
    with pytest.raises(InputError, match=message):
        recipes.validate(m2)


def test_only_fields_of_model_and_train_may_differ_with_few_labels(m2):
    with m2.unlocked():
        m2.few.seed = 1
    with pytest.raises(InputError, match=r"--config\.few\.seed: no such field"):
        recipes.validate(m2)


def test_few_labels_make_no_difference_to_a_model_that_learns_none(config):
    with config.unlocked():
        config.few = {"labels": 100, "model": {"hidden": (3,)}}
    with pytest.raises(InputError, match=r"--config\.few\.labels: no such field"):
        recipes.validate(config)


@pytest.mark.parametrize(
    ("name", "group", "message"),
    [
        ("m2", "few", r"--config\.few\.labels: the recipe does not set it"),
        ("m1", "few", r"--config\.few: no such field"),
        ("m1", "graph", r"--config\.graph\.num_neighbors: the recipe does not set it"),
        ("m1", "student", r"--config\.student\.num_epochs: the recipe does not"),
        ("m2", "graph", r"--config\.graph: no such field"),
    ],
)
def test_an_empty_group_is_refused_by_name(name, group, message):
    config = recipes.load(recipes.recipe_path(name))
    with config.unlocked():
        config[group] = ConfigDict()
    with pytest.raises(InputError, match=message):
        recipes.validate(config)


def test_a_name_of_a_model_that_is_none_is_refused(config):
    fields = config.to_dict()
    fields["model"]["name"] = []
    with pytest.raises(InputError, match=r"--config\.model\.name=\[\]: must be m1 or"):
        recipes.validate(ConfigDict(fields))


def test_a_field_of_another_model_is_refused(m2):
    with m2.unlocked():
        m2.model.kl_weight = 1.0
    with pytest.raises(InputError, match=r"--config\.model\.kl_weight: no such field"):
        recipes.validate(m2)


def test_a_recipe_may_be_frozen(tmp_path):
    file = tmp_path / "frozen.py"
    file.write_text(
        "from ml_collections import FrozenConfigDict\n"
        "from ssl_vae import config\n"
        "def get_config():\n"
        "    return FrozenConfigDict(config.load(config.recipe_path('m1')))\n"
    )
    config = recipes.load(file)
    config.model.latent_dim = 3
    recipes.validate(config)
