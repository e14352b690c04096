"""A trained classifier in the formats that others read, each as bytes."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ssl_vae.trained import TrainedClassifier

# Each format's package is imported where it is needed: others do without.

PLATFORMS = ("cpu", "cuda", "tpu")
About = Mapping[str, Any]


def probs_of(classifier: TrainedClassifier) -> Callable[[jax.Array], jax.Array]:
    """The whole classifier: images, uint8 [N, H, W, C] -> probs, float32 [N, K]."""

    def of_one(image: jax.Array) -> jax.Array:
        pixels = image.astype(jnp.float32) / 255
        return jnp.exp(classifier.traceable(pixels.reshape(1, -1))[0])

    # Image by image: what each sees has a known shape, whatever their number will be.
    return jax.vmap(of_one)


def images_of(classifier: TrainedClassifier) -> jax.ShapeDtypeStruct:
    """What `probs_of` takes, any number of images."""
    shape = ", ".join(map(str, classifier.image_shape))
    return jax.ShapeDtypeStruct(jax.export.symbolic_shape(f"N, {shape}"), jnp.uint8)


def to_safetensors(classifier: TrainedClassifier, about: About) -> bytes:
    """All weights by dotted name, such as "m1.encoder.mean.kernel"."""
    import safetensors.numpy

    leaves = jax.tree_util.tree_leaves_with_path(classifier.weights)
    arrays = {
        ".".join(str(part.key) for part in path): np.ascontiguousarray(leaf)
        for path, leaf in leaves
    }
    return safetensors.numpy.save(arrays, metadata=as_text(about))


def to_jax(classifier: TrainedClassifier, about: About) -> bytes:
    """The classifier for `jax.export.deserialize`, on a CPU, a GPU or a TPU."""
    del about  # the format has no place for it
    function = jax.jit(probs_of(classifier))
    # Accelerators would round the factors of a product to fewer digits.
    with jax.default_matmul_precision("float32"):
        exported = jax.export.export(function, platforms=PLATFORMS)
        return bytes(exported(images_of(classifier)).serialize())


def to_onnx(classifier: TrainedClassifier, about: About) -> bytes:
    """The classifier as an ONNX model, from "images" to "probs"."""
    from ssl_vae.export import onnx_graph

    traced = jax.make_jaxpr(probs_of(classifier))(images_of(classifier))
    return onnx_graph.model(traced, "images", "probs", as_text(about))


def as_text(about: About) -> dict[str, str]:
    """Texts as they are, anything else as JSON."""
    return {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in about.items()
    }
