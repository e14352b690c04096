import os
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ssl_vae import train
from ssl_vae.models import M1

MODEL = M1(pixels=16, latent_dim=2, hidden=(8,))
TX = optax.adam(1e-2)
NUM_IMAGES, BATCH_SIZE = 50, 8  # 6 steps an epoch, 2 images left over


@pytest.fixture
def images():
    return jax.random.uniform(jax.random.key(7), (NUM_IMAGES, 16))


def fresh_state():
    return train.init_state(MODEL.init(jax.random.key(0)), TX)


def compiled(images, loss_fn=MODEL.loss, tx=TX, steps_per_scan=100):
    state = train.init_state(MODEL.init(jax.random.key(0)), tx)
    return train.compile_steps(
        state,
        images,
        jax.random.key(1),
        batch_size=BATCH_SIZE,
        loss_fn=loss_fn,
        tx=tx,
        mesh=train.data_mesh(),
        steps_per_scan=steps_per_scan,
    )


def assert_same_bits(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_the_loss_falls(images):
    log = [
        metrics["loss"]
        for _, metrics in train.fit(compiled(images), fresh_state(), num_steps=300)
    ]
    assert len(log) == 50
    assert log[-1] < log[0] - 1


def test_two_runs_with_one_seed_are_equal_to_the_last_bit(images):
    one, other = (
        list(train.fit(compiled(images), fresh_state(), num_steps=12))[-1]
        for _ in range(2)
    )
    assert_same_bits(one, other)


def test_an_interrupted_run_is_equal_to_the_last_bit(images):
    advance = compiled(images)
    whole = [metrics for _, metrics in train.fit(advance, fresh_state(), num_steps=24)]
    parts = []
    state = fresh_state()
    for num_steps in (6, 18, 24):
        part = list(train.fit(advance, state, num_steps=num_steps))
        parts += [metrics for _, metrics in part]
        # As after a restart: nothing but the numbers is left.
        state = jax.tree.map(lambda a: jnp.asarray(np.asarray(a)), part[-1][0])
    assert parts == whole


def test_a_scan_of_an_epoch_is_its_steps_one_after_the_other(images):
    key = jax.random.key(1)
    state, _ = compiled(images)(fresh_state())
    by_hand = fresh_state()
    key_shuffle, key_noise = jax.random.split(key)
    order = jax.random.permutation(jax.random.fold_in(key_shuffle, 0), NUM_IMAGES)
    for rows in order[: 6 * BATCH_SIZE].reshape(6, BATCH_SIZE):
        by_hand, _ = train.train_step(
            by_hand, images[rows], key_noise, loss_fn=MODEL.loss, tx=TX
        )
    assert state.step == by_hand.step == 6
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5),
        state.params,
        by_hand.params,
    )


def count_images(params, batch, *, key):
    """A loss whose metric counts the images of a step; image i holds the number i."""
    seen = jnp.zeros([NUM_IMAGES]).at[batch[:, 0].astype(jnp.int32)].add(1.0)
    return sum(jnp.sum(p) for p in jax.tree.leaves(params)), {"seen": seen}


def test_an_epoch_takes_no_image_twice_and_the_next_one_shuffles_anew():
    numbers = jnp.arange(NUM_IMAGES, dtype=jnp.float32)
    images = jnp.broadcast_to(numbers[:, None], (NUM_IMAGES, 16))
    advance = compiled(images, loss_fn=count_images)
    state, first = advance(fresh_state())
    _, second = advance(state)
    for metrics in (first, second):
        counts = 6 * metrics["seen"]  # the mean over 6 steps, times 6
        assert sorted(np.round(counts)) == [0] * 2 + [1] * 48
    assert (first["seen"] != second["seen"]).any()


def test_an_epoch_in_unequal_parts_is_the_same_epoch(images):
    whole, parts = compiled(images), compiled(images, steps_per_scan=4)
    logs = [list(train.fit(f, fresh_state(), num_steps=12)) for f in (whole, parts)]
    assert [len(log) for log in logs] == [2, 4]  # of 6 steps, and of 4 and 2
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5),
        logs[0][-1][0].params,
        logs[1][-1][0].params,
    )


def test_eight_devices_give_the_result_of_one():
    script = textwrap.dedent("""
        import jax, numpy as np, optax
        from ssl_vae import train
        from ssl_vae.errors import InputError
        from ssl_vae.models import M1

        assert jax.device_count() == 8
        model, tx = M1(pixels=16, latent_dim=2, hidden=(8,)), optax.adam(1e-2)
        images = jax.random.uniform(jax.random.key(7), (50, 16))

        def trained(devices):
            mesh = train.data_mesh(devices)
            state = train.init_state(model.init(jax.random.key(0)), tx)
            advance = train.compile_steps(
                state, images, jax.random.key(1), batch_size=8, loss_fn=model.loss,
                tx=tx, mesh=mesh,
            )
            for state, metrics in train.fit(advance, state, num_steps=30):
                pass
            assert all(len(a.devices()) == mesh.size for a in jax.tree.leaves(state))
            return state.params, metrics

        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
            trained(jax.devices()), trained(jax.devices()[:1]),
        )
        try:
            train.check_batch_size(100, train.data_mesh())
        except InputError as error:
            assert "batch_size=100: must be a multiple of the 8 devices" in str(error)
        else:
            raise AssertionError("100 images cannot be shared by 8 devices")
    """)
    environment = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    subprocess.run(
        [sys.executable, "-c", script], env=os.environ | environment, check=True
    )
