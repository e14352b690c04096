import functools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ssl_vae import devices, epochs, train
from ssl_vae.batches import Examples
from ssl_vae.models import M1, M2

MODEL = M1(image_shape=(4, 4, 1), latent_dim=2, hidden=(8,))
M2_MODEL = M2(16, 4, labeled_fraction=0.2, warmup_steps=2, latent_dim=2, hidden=(8,))
TX = optax.adam(1e-2)
NUM_IMAGES, BATCH_SIZE = 50, 8  # 6 steps an epoch, 2 images left over


@pytest.fixture
def images():
    return jax.random.uniform(jax.random.key(7), (NUM_IMAGES, 16))


def fresh_state():
    return train.init_state(MODEL.init(jax.random.key(0)), TX)


def examples_of(images):
    return [Examples(images, jnp.arange(len(images)))]


def compiled(images, loss_fn=MODEL.loss, tx=TX, steps_per_scan=100):
    state = train.init_state(MODEL.init(jax.random.key(0)), tx)
    return epochs.compile_steps(
        state,
        examples_of(images),
        jax.random.key(1),
        batch_sizes=[BATCH_SIZE],
        loss_fn=loss_fn,
        tx=tx,
        mesh=devices.data_mesh(),
        steps_per_scan=steps_per_scan,
    )


def assert_same_bits(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_the_loss_falls(images):
    log = [
        metrics["loss"]
        for _, metrics in epochs.fit(compiled(images), fresh_state(), num_steps=300)
    ]
    assert len(log) == 50
    assert log[-1] < log[0] - 1


def test_two_runs_with_one_seed_are_equal_to_the_last_bit(images):
    one, other = (
        list(epochs.fit(compiled(images), fresh_state(), num_steps=12))[-1]
        for _ in range(2)
    )
    assert_same_bits(one, other)


def test_an_interrupted_run_is_equal_to_the_last_bit(images):
    advance = compiled(images)
    whole = [metrics for _, metrics in epochs.fit(advance, fresh_state(), num_steps=24)]
    parts = []
    state = fresh_state()
    for num_steps in (6, 18, 24):
        part = list(epochs.fit(advance, state, num_steps=num_steps))
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
            by_hand,
            [images[rows]],
            key_noise,
            loss_fn=MODEL.loss,
            tx=TX,
            mesh=devices.data_mesh(),
        )
    assert state.step == by_hand.step == 6
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5),
        state.params,
        by_hand.params,
    )


def count_images(params, batch, *, key, step):
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
    logs = [list(epochs.fit(f, fresh_state(), num_steps=12)) for f in (whole, parts)]
    assert [len(log) for log in logs] == [2, 4]  # of 6 steps, and of 4 and 2
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5),
        logs[0][-1][0].params,
        logs[1][-1][0].params,
    )


def count_both(params, first, second, *, key, step):
    """A loss whose metrics count what is taken of two sets of numbered examples."""
    loss, _ = count_images(params, first, key=key, step=step)
    images, numbers = second
    assert images.shape[0] == numbers.shape[0]
    seen = jnp.zeros([NUM_IMAGES]).at[numbers].add(1.0)
    return loss, {
        "first": count_images(params, first, key=key, step=step)[1]["seen"]
    } | {"second": seen}


@pytest.fixture
def numbered():
    numbers = jnp.arange(NUM_IMAGES, dtype=jnp.int32)
    images = jnp.broadcast_to(numbers[:, None].astype(jnp.float32), (NUM_IMAGES, 16))
    return images, numbers


def test_every_batch_has_a_part_of_every_set_and_takes_its_rows_only(numbered):
    images, _ = numbered
    few, rest = jnp.arange(5, dtype=jnp.int32), jnp.arange(5, 50, dtype=jnp.int32)
    advance = epochs.compile_steps(
        fresh_state(),
        [Examples(images, rest), Examples(numbered, few)],
        jax.random.key(1),
        batch_sizes=[9, 2],  # 5 steps an epoch, 2 steps a pass over the few
        loss_fn=count_both,
        tx=TX,
        mesh=devices.data_mesh(),
        steps_per_scan=4,
    )
    state, one = advance(fresh_state())
    _, two = advance(state)
    first = 4 * one["first"] + two["first"]
    assert np.round(first).tolist() == [0] * 5 + [1] * 45
    # Two passes in four steps: each leaves out one of the five.
    counts = np.round(4 * one["second"])
    assert counts[5:].sum() == 0
    assert counts.sum() == 8
    assert counts.max() <= 2


def labeled_loss(params, x, labeled, *, key, step):
    """M1's loss on both parts, with the labels as pixels: all that is given counts."""
    images, labels = labeled
    images = images + labels[:, None].astype(jnp.float32) / 100
    (one, metrics), (two, _) = (
        MODEL.loss(params, each, key=key, step=step) for each in (x, images)
    )
    return one + two, metrics


def m2_loss(params, x, labeled, *, key, step):
    """The loss of M2, of as many classes as it has."""
    images, labels = labeled
    return M2_MODEL.loss(params, x, (images, labels % 4), key=key, step=step)


def several(images, labels, splits, one_by_one, model=MODEL, loss_fn=labeled_loss):
    """Two parts of an epoch for some of three label splits, trained side by side."""
    rows = jax.vmap(lambda k: jax.random.permutation(k, NUM_IMAGES))(
        jax.random.split(jax.random.key(5), 3)
    )[jnp.asarray(splits)]
    keys = jax.random.split(jax.random.key(6), 3)[jnp.asarray(splits)]
    examples = [
        Examples(images, rows[:, 10:]),
        Examples((images, labels), rows[:, :10]),
    ]
    steps = compiled_for_several(one_by_one, loss_fn)
    state = jax.vmap(lambda k: train.init_state(model.init(k), TX))(keys)
    for _ in range(2):
        state, metrics = steps(state, examples, keys)
    return state, metrics


@functools.cache
def compiled_for_several(one_by_one, loss_fn):
    """Three steps of several runs: compiled once for all tests."""
    steps = partial(
        train.train_steps,
        num_steps=3,
        batch_sizes=[8, 4],
        loss_fn=loss_fn,
        tx=TX,
        mesh=devices.data_mesh(),
    )
    return jax.jit(train.for_each_run(steps, one_by_one=one_by_one))


@pytest.mark.parametrize("one_by_one", [True, False], ids=["map", "vmap"])
@pytest.mark.parametrize("of", ["m1", "m2"])
def test_splits_side_by_side_are_equal_to_separate_runs(images, one_by_one, of):
    model = {"m1": (MODEL, labeled_loss), "m2": (M2_MODEL, m2_loss)}[of]
    labels = jnp.arange(NUM_IMAGES, dtype=jnp.int32)
    together = several(images, labels, [0, 1, 2], one_by_one, *model)
    for split in range(3):
        alone = several(images, labels, [split], True, *model)
        jax.tree.map(
            lambda a, b, i=split: np.testing.assert_allclose(
                a[i], b[0], rtol=1e-4, atol=1e-5
            ),
            together,
            alone,
        )


def test_hidden_labels_change_nothing_to_the_last_bit(images):
    labels = jnp.arange(NUM_IMAGES, dtype=jnp.int32)
    rows = jax.random.permutation(jax.random.split(jax.random.key(5), 3)[1], NUM_IMAGES)
    shown, hidden = rows[:10], rows[10:]
    permuted = labels.at[hidden].set(labels[hidden][::-1])
    changed = labels.at[shown].set(labels[shown][::-1])
    one = several(images, labels, [1], one_by_one=True)
    assert_same_bits(one, several(images, permuted, [1], one_by_one=True))
    with pytest.raises(AssertionError):
        assert_same_bits(one, several(images, changed, [1], one_by_one=True))
