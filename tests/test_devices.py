"""Eight devices share the batches and find what one device finds."""

import numpy as np
from conftest import run_on_eight

from ssl_vae import devices


def test_eight_devices_train_every_model_as_one_does():
    script = """
        import jax, jax.numpy as jnp, numpy as np, optax
        from ssl_vae import devices, epochs, placement, train
        from ssl_vae.models import M1, M1M2, M2

        assert jax.device_count() == 8
        tx, pixels = optax.adam(1e-2), jax.random.uniform(jax.random.key(7), (50, 16))
        labels, rows = np.arange(50) % 4, np.arange(50)
        m1 = M1((4, 4, 1), latent_dim=3, hidden=(8,))
        m1_params = m1.init(jax.random.key(3))
        small = dict(num_classes=4, labeled_fraction=0.5, latent_dim=2, hidden=(8,))
        m1_m2 = M1M2(m1, m1_params, np.arange(3), M2(3, gaussian=True, **small))
        code = m1.encode(m1_params, pixels)

        def trained(model, inputs, labeled, some):
            sets, sizes = [inputs.examples(rows)], [8]
            if labeled:
                sets = [
                    inputs.examples(rows[:30]),
                    placement.labeled_examples(inputs, labels, rows[30:]),
                ]
                sizes = [16, 8]
            mesh = devices.data_mesh(some)
            state = train.init_state(model.init(jax.random.key(0)), tx)
            advance = epochs.compile_steps(
                state, sets, jax.random.key(1), batch_sizes=sizes,
                loss_fn=model.loss, tx=tx, mesh=mesh,
            )
            num_steps = 5 * (len(sets[0].rows) // sizes[0])
            for state, metrics in epochs.fit(advance, state, num_steps=num_steps):
                pass
            assert all(len(a.devices()) == mesh.size for a in jax.tree.leaves(state))
            return state.params, metrics

        for model, arrays in (m1, pixels), (M2(16, **small), pixels), (m1_m2, code):
            one, eight, streamed = (
                trained(model, placed(arrays), model is not m1, some)
                for placed, some in (
                    (placement.OnDevice, jax.devices()[:1]),
                    (placement.OnDevice, jax.devices()),
                    (lambda a: placement.OnHost(jax.tree.map(np.asarray, a)), None),
                )
            )
            for other in eight, streamed:
                jax.tree.map(
                    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
                    one, other,
                )
    """
    run_on_eight(script)


def test_eight_devices_train_several_students_as_one_does():
    script = """
        import jax, numpy as np, optax
        from ssl_vae import devices, epochs, placement, train
        from ssl_vae.models import Student

        student = Student((4, 4, 1), 4, num_steps=5, channels=(4,), hidden=8)
        pixels = jax.random.uniform(jax.random.key(7), (50, 16))
        guesses = jax.nn.log_softmax(jax.random.normal(jax.random.key(8), (2, 50, 4)))
        labels, rows = np.arange(50) % 4, np.stack([np.arange(50)] * 2)
        keys = jax.random.split(jax.random.key(1), 2)
        tx = optax.adam(1e-2)

        def trained(placed, some=None):
            sets = [
                placed.examples(rows[:, :30], np.asarray(guesses)),
                placement.labeled_examples(placed, labels, rows[:, 30:]),
            ]
            params = jax.vmap(student.init)(keys)
            state = jax.vmap(lambda params: train.init_state(params, tx))(params)
            advance = epochs.compile_steps(
                state, sets, keys, batch_sizes=[16, 8], loss_fn=student.loss, tx=tx,
                mesh=devices.data_mesh(some),
            )
            for state, metrics in epochs.fit(advance, state, num_steps=5):
                pass
            return state.params, metrics

        one = trained(placement.OnDevice(pixels), jax.devices()[:1])
        eight = trained(placement.OnDevice(pixels))
        streamed = trained(placement.OnHost(np.asarray(pixels)))
        for other in eight, streamed:
            jax.tree.map(
                lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
                one, other,
            )
    """
    run_on_eight(script)


def test_gradients_of_all_arrays_are_exchanged_at_once():
    script = """
        import math, re
        import jax, jax.numpy as jnp, numpy as np, optax
        from functools import partial
        from unittest import mock
        from ssl_vae import copies, devices, placement, train
        from ssl_vae.models import M1, M2

        tx, mesh = optax.sgd(0.1), devices.data_mesh()
        pixels, rows = jax.random.uniform(jax.random.key(7), (64, 16)), np.arange(64)
        placed = placement.OnDevice(pixels)
        images = placed.examples(rows)
        labeled = placement.labeled_examples(placed, rows % 4, rows[:32])
        m2 = M2(16, num_classes=4, labeled_fraction=0.5)

        def trained(model, sets, sizes):
            state = train.init_state(model.init(jax.random.key(0)), tx)
            given = devices.replicate(mesh, (state, sets, jax.random.key(1)))
            steps = jax.jit(partial(
                train.train_steps, num_steps=2, batch_sizes=sizes, loss_fn=model.loss,
                tx=tx, mesh=mesh,
            )).lower(*given).compile()
            found = re.findall(r"= (.*) (all-[a-z]*|collective-permute|reduce-scatter)"
                               r"\\(", steps.as_text())
            assert all(kind == "all-reduce" for _, kind in found), found
            exchanged = [
                math.prod(map(int, dims.split(","))) if dims else 1
                for each, _ in found for dims in re.findall(r"f32\\[([0-9,]*)\\]", each)
            ]
            return steps(*given), exchanged

        for model, sets, sizes in (M1((4, 4, 1)), [images], [16]), (
            m2, [images, labeled], [16, 8]
        ):
            weights = [a.size for a in jax.tree.leaves(model.init(jax.random.key(0)))]
            at_once, exchanged = trained(model, sets, sizes)
            # What else there is, is for the log: means, and how often a class is given.
            assert [size for size in exchanged if size > 4] == [sum(weights)]
            assert len(exchanged) < 10
            # As on accelerators: array by array.
            with mock.patch.object(copies, "for_mesh", lambda params, mesh: params):
                one_by_one, exchanged = trained(model, sets, sizes)
            assert len(exchanged) >= len(weights)
            jax.tree.map(
                lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
                at_once, one_by_one,
            )
    """
    run_on_eight(script)


def test_a_batch_that_eight_devices_cannot_share_is_refused_with_both_numbers():
    script = """
        from ssl_vae import devices, epochs
        from ssl_vae.errors import InputError

        epochs.check_batch_sizes([8, 96], devices.data_mesh())
        for sizes, parts in (
            ([100], "batch_size: 100 images a step cannot be shared evenly"),
            ([8, 100], "batch_size: 8 images and 100 labeled ones a step cannot be sh"),
        ):
            try:
                epochs.check_batch_sizes(sizes, devices.data_mesh())
            except InputError as error:
                assert parts in str(error)
                assert "by 8 devices" in str(error)
            else:
                raise AssertionError("100 images cannot be shared by 8 devices")
    """
    run_on_eight(script)


def test_scattered_rows_are_read_once_and_come_out_in_order():
    mesh = devices.data_mesh()
    rows, reads = np.arange(24).reshape(2, 3, 4)[::-1], []

    def read(some):
        reads.append(some)
        return {"x": some[..., None] * 10}

    whole = devices.scattered(devices.split(mesh, axis=2), rows, read)
    np.testing.assert_array_equal(whole["x"], rows[..., None] * 10)
    assert len(reads) == mesh.size
