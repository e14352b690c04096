"""Weights in as many copies as there are devices: their gradients meet in one sum.

Left to itself, XLA sums the gradient of every array over the devices. Between processes
on CPUs that is one exchange after the other, each of which waits for the slowest, and
together they take longer than the rest of a small step. A copy's gradient comes from
one device's part of the batch alone, so the sum over the copies can be of all arrays at
once.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh

from ssl_vae import devices


@partial(jax.tree_util.register_dataclass, data_fields=["params"], meta_fields=[])
@dataclass(frozen=True)
class Copies:
    """Parameters, or their gradients: every array has a leading axis of devices."""

    params: Any

    def __getitem__(self, name: str) -> "Copies":
        """The copies of one of a model's networks."""
        return Copies(self.params[name])


def for_mesh(params: Any, mesh: Mesh) -> Any:
    """The parameters as a loss is given them: `Copies` on several CPUs, or else as is.

    Accelerators exchange several arrays at once, and would have the copying on top.
    """
    if mesh.size == 1 or not devices.on_cpus(mesh):
        return params

    def copied(array: jax.Array) -> jax.Array:
        copies = jnp.broadcast_to(array, (mesh.size, *array.shape))
        return jax.lax.with_sharding_constraint(copies, devices.split(mesh))

    return Copies(jax.tree.map(copied, params))


def summed(grads: Any) -> Any:
    """The gradient of parameters, from that of what `for_mesh` made of them."""
    if not isinstance(grads, Copies):
        return grads
    _, unravel = ravel_pytree(jax.tree.map(lambda array: array[0], grads.params))
    vectors = jax.vmap(lambda each: ravel_pytree(each)[0])(grads.params)
    return unravel(jnp.sum(vectors, axis=0))


def apply(network: nn.Module, params: Any, *inputs: jax.Array) -> Any:
    """What a network makes of a batch.

    Args:
      network: Treats every example of a batch independently.
      params: Its parameters, or `Copies` of them, each for a part of the batch.
      *inputs: [batch, ...], or [1, ...] for what the examples share. A batch for
        copies has as many examples for each of them, so it is longer than 1.

    Returns:
      One array [batch, ...], or several.
    """

    def of_part(params: Any, *inputs: jax.Array) -> Any:
        return network.apply({"params": params}, *inputs)

    if not isinstance(params, Copies):
        return of_part(params, *inputs)
    num_parts = len(jax.tree.leaves(params)[0])
    axes = [0 if len(x) > 1 else None for x in inputs]
    parts = [
        x if axis is None else x.reshape(num_parts, -1, *x.shape[1:])
        for x, axis in zip(inputs, axes, strict=True)
    ]
    outputs = jax.vmap(of_part, in_axes=(0, *axes))(params.params, *parts)
    return jax.tree.map(lambda y: y.reshape(-1, *y.shape[2:]), outputs)
