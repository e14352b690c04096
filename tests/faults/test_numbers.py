"""NaN and infinity: noticed on the device, told with step and array, never saved."""

import harness
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ssl_vae import devices, epochs, train
from ssl_vae.batches import Examples
from ssl_vae.errors import RunError
from ssl_vae.experiment import Diverged, run_experiment
from ssl_vae.finite import NotFinite
from ssl_vae.results import Results


@jax.custom_vjp
def poisoned(x, bad):
    """x, whose gradient is NaN where `bad` says so."""
    return x


poisoned.defvjp(
    lambda x, bad: (x, bad),
    lambda bad, g: (jnp.where(bad, jnp.nan, g), None),
)


def loss_with(poison, bad_step=7):
    """A loss that is bad, or has a bad gradient of one array, at a step from 1 on."""

    def loss(params, batch, *, key, step):
        bad = step == bad_step - 1
        layer = params["layer"]
        if poison in layer:
            layer = layer | {poison: poisoned(layer[poison], bad)}
        total = sum(jnp.sum((leaf - 1) ** 2) for leaf in jax.tree.leaves(layer))
        if poison == "loss":
            total = jnp.where(bad, jnp.inf, total)
        return total + 0 * jnp.sum(batch), {"loss": total}

    return loss


def fitted(loss_fn, several=0):
    """States after each part of 4 steps, of epochs of 10."""
    tx = optax.adam(1e-3)
    params = {"layer": {"bias": jnp.zeros(3), "kernel": jnp.zeros((3, 3))}}
    key, rows = jax.random.key(0), jnp.arange(10, dtype=jnp.int32)
    if several:
        copies = lambda a: jnp.stack([a] * several)  # noqa: E731
        params, rows = jax.tree.map(copies, params), copies(rows)
        key = jax.random.split(key, several)
    start = lambda p: train.init_state(p, tx)  # noqa: E731
    state = jax.vmap(start)(params) if several else start(params)
    advance = epochs.compile_steps(
        state,
        [Examples(jnp.ones((10, 2)), rows)],
        key,
        batch_sizes=[1],
        loss_fn=loss_fn,
        tx=tx,
        mesh=devices.data_mesh(),
        steps_per_scan=4,
    )
    return epochs.fit(advance, state, num_steps=20)


@pytest.mark.parametrize("several", [0, 2])
@pytest.mark.parametrize(
    ("poison", "step", "message"),
    [
        ("loss", 7, "the loss is not finite at step 7"),
        ("bias", 7, "the gradient of layer/bias is not finite at step 7"),
        ("kernel", 7, "the loss is not finite at step 8"),  # the first to notice
        ("kernel", 8, "params/layer/kernel is not finite by step 8"),
    ],
)
def test_the_first_bad_array_and_its_step_are_named(poison, step, message, several):
    states = fitted(loss_with(poison, step), several)
    with harness.fault(f"NaN, {poison}"):
        state, metrics = next(states)
        assert epochs.steps_done(state) == 4
        assert list(metrics) == ["loss"]
        with pytest.raises(NotFinite) as error:
            next(states)
        assert str(error.value) == message


def test_a_sound_training_is_not_stopped():
    assert len(list(fitted(loss_with("")))) == 6


def test_a_metric_that_is_not_finite_stops_the_run():
    def loss(params, batch, *, key, step):
        total, _ = loss_with("")(params, batch, key=key, step=step)
        return total, {"loss": total, "kl": jnp.where(step == 5, jnp.nan, total)}

    with pytest.raises(NotFinite, match="kl is not finite by step 8"):
        list(fitted(loss))


def test_a_diverged_run_tells_the_cause_and_saves_no_bad_state(small_data, tmp_path):
    wild = {"train.learning_rate": 10.0, "model.kl_weight": 1000.0}
    deep = {"model.hidden": (32, 32), "train.batch_size": 20}
    config = harness.recipe(**wild, **deep, **{"train.kl_warmup": 0.0})
    with pytest.raises(Diverged) as error:
        run_experiment(config, tmp_path, data_dir=small_data)
    message = str(error.value)
    assert "is not finite at step " in message
    assert "its learning_rate, 10, is too large" in message
    assert list((tmp_path / "steps").iterdir()) == []
    assert not (tmp_path / "vae_weights").exists()


def test_a_figure_that_is_not_finite_is_told_and_not_written(tmp_path):
    results = Results(1, "m1", "m1", 0, {}, {"test_elbo": np.nan}, [], {}, "", {}, "")
    path = tmp_path / "results.json"
    with pytest.raises(RunError, match="some figure of the model is not finite"):
        results.save(path)
    assert not path.exists()
