"""The devices of a run: one axis, over which batches are split and weights copied."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec


def data_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Devices (default: all, of all processes) on one axis, "data"."""
    devices = devices or jax.devices()
    # Auto: the compiler propagates shardings, which linen's layers rely on.
    return jax.make_mesh(
        (len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices
    )


def on_cpus(mesh: Mesh | AbstractMesh) -> bool:
    """Whether its devices are CPUs; those of an abstract mesh are not at hand: no."""
    return isinstance(mesh, Mesh) and mesh.devices.flat[0].platform == "cpu"


def split(mesh: Mesh, axis: int = 0) -> NamedSharding:
    """Arrays of which every device has a part, along an axis."""
    return NamedSharding(mesh, PartitionSpec(*[None] * axis, "data"))


def replicate(mesh: Mesh, tree: Any) -> Any:
    """The arrays of `tree`, whole on every device of the mesh.

    If the devices are of several processes, each gives the same arrays.
    """
    sharding = NamedSharding(mesh, PartitionSpec())
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)

    def put(leaf: Any) -> jax.Array:
        if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
            return leaf
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(put(jax.random.key_data(leaf)))
        return jax.make_array_from_process_local_data(sharding, np.asarray(leaf))

    return jax.tree.map(put, tree)


def own_copy(tree: Any) -> Any:
    """Replicated arrays as this process has them on its first device."""
    return jax.tree.map(lambda array: array.addressable_data(0), tree)


def scattered(sharding: NamedSharding, rows: np.ndarray, read: Any) -> Any:
    """What is read at `rows`, every device's part alone; one read a device.

    Args:
      sharding: Of an array of the shape of `rows`.
      rows: int, the same in all processes.
      read: Of some rows, int [...] -> a tree of NumPy arrays [..., ...].
    """
    places = sharding.addressable_devices_indices_map(rows.shape)
    parts = [jax.device_put(read(rows[at]), device) for device, at in places.items()]

    def whole(*leaves: jax.Array) -> jax.Array:
        shape = *rows.shape, *leaves[0].shape[rows.ndim :]
        return jax.make_array_from_single_device_arrays(shape, sharding, list(leaves))

    return jax.tree.map(whole, *parts)
