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
                sizes = [8, 8]
            mesh = devices.data_mesh(some)
            state = train.init_state(model.init(jax.random.key(0)), tx)
            advance = epochs.compile_steps(
                state, sets, jax.random.key(1), batch_sizes=sizes,
                loss_fn=model.loss, tx=tx, mesh=mesh,
            )
            num_steps = 5 * (len(sets[0].rows) // 8)
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

        student = Student((4, 4, 1), 4, num_steps=15, channels=(4,), hidden=8)
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
                state, sets, keys, batch_sizes=[8, 8], loss_fn=student.loss, tx=tx,
                mesh=devices.data_mesh(some),
            )
            for state, metrics in epochs.fit(advance, state, num_steps=15):
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
        from unittest import mock
        from ssl_vae import copies, devices, train
        from ssl_vae.models import M1

        model, tx, mesh = M1((4, 4, 1)), optax.sgd(0.1), devices.data_mesh()
        state = train.init_state(model.init(jax.random.key(0)), tx)
        images = jax.random.uniform(jax.random.key(7), (16, 16))
        images = jax.device_put(images, devices.split(mesh))
        state, key = devices.replicate(mesh, (state, jax.random.key(1)))

        def compiled():
            def step(state, images, key):
                return train.train_step(
                    state, [images], key, loss_fn=model.loss, tx=tx, mesh=mesh
                )
            step = jax.jit(step).lower(state, images, key).compile()
            sums = re.findall(r"= (.*) all-reduce\\(", step.as_text())
            sizes = [
                math.prod(map(int, dims.split(","))) if dims else 1
                for each in sums for dims in re.findall(r"f32\\[([0-9,]*)\\]", each)
            ]
            return step(state, images, key), [size for size in sizes if size > 1]

        weights = [leaf.size for leaf in jax.tree.leaves(state.params)]
        at_once, exchanged = compiled()
        assert exchanged == [sum(weights)], exchanged
        # As on accelerators: array by array.
        with mock.patch.object(copies, "one_each", lambda params, mesh: params):
            one_by_one, exchanged = compiled()
        assert sorted(exchanged) == sorted(weights), exchanged
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
