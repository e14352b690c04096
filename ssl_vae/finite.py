"""Numbers that are NaN or infinite: found on the device, told by step and array."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class NotFinite(ArithmeticError):
    """Training met a number that is NaN or infinite; says what and at which step."""


class Finite(NamedTuple):
    """How far the numbers of some steps are finite; of several runs, with an axis."""

    # int32 [n], of the loss and each of `_vectors`: steps before the first bad one
    steps: jax.Array
    state: jax.Array  # bool [m]: whether each array of the state ends sound


def of_step(loss: jax.Array, grads: Any) -> jax.Array:
    """Whether the loss of a step and each of `_vectors` of its gradients is: [n]."""
    return _sound({"loss": loss} | _vectors(grads))


def of_steps(steps: jax.Array, state: Any) -> Finite:
    """What becomes of `of_step` of some steps, bool [num_steps, n].

    Args:
      steps: Of each step.
      state: A tree, as it is after the last one.
    """
    until = jnp.where(steps.all(axis=0), len(steps), jnp.argmin(steps, axis=0))
    return Finite(until.astype(jnp.int32), _sound(_by_name(state)))


def check(found: Finite, state: Any, params: Any, done: range) -> None:
    """Refuses steps with a number that is not finite.

    Args:
      found: What `of_steps` says of them.
      state: The state after them.
      params: Parameters in it.
      done: How many steps the run had done before each of them.

    Raises:
      NotFinite: naming the first array, and the step where it is known.
    """
    steps = found.steps.reshape(-1, found.steps.shape[-1]).min(axis=0)
    if (first := int(steps.min())) < len(done):
        vectors = _vectors(params, several=found.steps.ndim - 1)
        names = ["the loss", *(f"the gradient of {name}" for name in vectors)]
        name = names[int(np.argmin(steps))]
        raise NotFinite(f"{name} is not finite at step {done[first] + 1}")
    sound = found.state.reshape(-1, found.state.shape[-1]).all(axis=0)
    for name, well in zip(_by_name(state), sound, strict=True):
        if not well:
            raise NotFinite(f"{name} is not finite by step {done.stop}")


def _vectors(params: Any, several: int = 0) -> dict[str, Any]:
    """By name, the arrays whose gradients every step looks at.

    A look at those of the matrices too would make a step 6 % slower. What is not finite
    there mostly is not in the same layer's bias either; what slips through is seen in
    the state at the end of the part.

    Args:
      params: Parameters or their gradients.
      several: 1 if there is a leading axis, of runs.
    """
    named = _by_name(params)
    return {name: array for name, array in named.items() if array.ndim < 2 + several}


def _by_name(tree: Any) -> dict[str, Any]:
    """The arrays of a tree by their path, such as "params/encoder/bias"."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _sound(arrays: dict[str, Any]) -> jax.Array:
    return jnp.stack([jnp.isfinite(array).all() for array in arrays.values()])
