"""Eight devices share the batches and find what one device finds."""

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from ssl_vae import devices


@pytest.mark.parametrize("name", ["m1", "m2", "m1_m2"])
def test_a_run_on_eight_devices_is_that_on_one(name, small_data, tmp_path):
    script = """
        import json, sys
        from pathlib import Path
        import jax, numpy as np
        from conftest import OWN, SMALL
        from ssl_vae import config as recipes, devices, job
        from ssl_vae.experiment import run_experiment

        name, data_dir, workdir = sys.argv[1], sys.argv[2], Path(sys.argv[3])
        assert jax.device_count() == 8
        config = recipes.load(recipes.recipe_path(name))
        shared = {"train.batch_size": 24}
        if name != "m1":  # 16 unlabeled images and 8 labeled
            shared["train.num_epochs"] = 2
        if name == "m1_m2":
            shared |= {"m1.train.batch_size": 40, "m1.train.num_epochs": 2}
        config.update_from_flattened_dict(SMALL | OWN[name] | shared)
        eight = run_experiment(config, workdir / "8", data_dir=data_dir)
        job.data_mesh = lambda: devices.data_mesh(jax.devices()[:1])
        one = run_experiment(config, workdir / "1", data_dir=data_dir)

        logs = [sorted((workdir / n).rglob("metrics.jsonl")) for n in "81"]
        assert logs[0]
        for files in zip(*logs, strict=True):
            lines = [file.read_text().splitlines() for file in files]
            for mine, theirs in zip(*(map(json.loads, each) for each in lines)):
                for metric in mine:
                    np.testing.assert_allclose(mine[metric], theirs[metric], rtol=1e-3)
        for mine, theirs in zip(eight.results, one.results, strict=True):
            np.testing.assert_allclose(
                mine.test_accuracy, theirs.test_accuracy, atol=0.03
            )
    """
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), name, small_data, tmp_path],
        cwd=os.path.dirname(__file__),
        env=os.environ
        | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
        | {"PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), *sys.path])},
        check=True,
    )


def test_scattered_rows_are_read_once_and_come_out_in_order():
    mesh = devices.data_mesh()
    rows, reads = np.arange(24).reshape(2, 3, 4)[::-1], []

    def read(some):
        reads.append(some)
        return {"x": some[..., None] * 10}

    whole = devices.scattered(devices.split(mesh, axis=2), rows, read)
    np.testing.assert_array_equal(whole["x"], rows[..., None] * 10)
    assert len(reads) == mesh.size
