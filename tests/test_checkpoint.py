import os
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssl_vae import checkpoint

STATE = {"step": jnp.int32(3), "weights": jnp.array([0.1, -2.5e-8]), "none": ()}


def test_a_state_comes_back_to_the_last_bit(tmp_path):
    with checkpoint.Checkpoints(tmp_path / "steps") as checkpoints:
        checkpoints.save(3, STATE)
    fresh = jax.tree.map(jnp.zeros_like, STATE)
    with checkpoint.Checkpoints(tmp_path / "steps") as checkpoints:
        restored = checkpoints.restore(fresh)
    jax.tree.map(np.testing.assert_array_equal, restored, STATE)
    assert restored["step"].dtype == jnp.int32


def test_the_newest_state_is_restored_and_old_ones_are_dropped(tmp_path):
    with checkpoint.Checkpoints(tmp_path) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, {"step": jnp.int32(step)})
        assert checkpoints.restore({"step": jnp.int32(0)})["step"] == 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["00000002", "00000003"]


def test_an_empty_folder_holds_no_state(tmp_path):
    with checkpoint.Checkpoints(tmp_path / "steps") as checkpoints:
        assert checkpoints.restore(STATE) is None


def test_a_step_that_would_not_be_saved_is_an_error(tmp_path):
    with checkpoint.Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(2, STATE)
        with pytest.raises(RuntimeError, match="step 1 was not saved"):
            checkpoints.save(1, STATE)


def test_weights_come_back_and_are_never_written_over(tmp_path):
    folder = tmp_path / "vae_weights"
    checkpoint.save_weights(folder, {"w": jnp.arange(3.0)})
    with pytest.raises(ValueError, match="already exists"):
        checkpoint.save_weights(folder, {"w": jnp.arange(3.0) + 1})
    loaded = checkpoint.load_weights(folder, {"w": jnp.zeros(3)})
    np.testing.assert_array_equal(loaded["w"], [0.0, 1.0, 2.0])


def test_weights_of_another_shape_are_refused(tmp_path):
    checkpoint.save_weights(tmp_path / "vae_weights", {"w": jnp.zeros(3)})
    with pytest.raises(ValueError, match="shape"):
        checkpoint.load_weights(tmp_path / "vae_weights", {"w": jnp.zeros(4)})


def test_weights_of_four_devices_are_read_on_one(tmp_path):
    script = """
        import sys, jax, jax.numpy as jnp
        from pathlib import Path
        from ssl_vae import checkpoint, devices
        params = devices.replicate(devices.data_mesh(), {"w": jnp.arange(3.0)})
        assert len(params["w"].devices()) == 4
        checkpoint.save_weights(Path(sys.argv[1]), params)
    """
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "weights")],
        env=os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"},
        check=True,
    )
    loaded = checkpoint.load_weights(tmp_path / "weights", {"w": jnp.zeros(3)})
    np.testing.assert_array_equal(loaded["w"], [0.0, 1.0, 2.0])
