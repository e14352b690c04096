"""What a run's figures are called, and what they mean, in words."""

from ssl_vae.datasets.known import CANONICAL_SHA256
from ssl_vae.results import Results

PROTOCOLS = {
    "inductive": "no step of the training saw the {images}, with or without labels.",
    "transductive": "the training saw the {images}, without their labels.",
    "cross_validation": "the data has no {images} of its own. Each labeled image was"
    " judged by a classifier that was fitted without its label.",
}
MODELS = {
    "m1": "A variational autoencoder of all training images, which learns no labels; a"
    " support vector machine on its features of the labeled few classifies.",
    "m2": "One generative model of images with a class and a style. It learns from the"
    " labeled and the unlabeled images at once, and its own q(y|x) classifies.",
    "m1_m2": "A variational autoencoder of all training images and, of its latent"
    " variable, a generative model with a class and a style, whose q(y|z) classifies.",
}


def held_out(results: Results) -> str:
    """Which images the accuracy is of: "test" or "validation"."""
    name = results.dataset["name"]
    return "validation" if name.endswith("-validation") else "test"


def protocol(name: str, results: Results) -> str:
    """What a protocol means; nothing for one that is not known."""
    return PROTOCOLS.get(name, "").format(images=f"{held_out(results)} images")


def model(results: Results) -> str:
    """What the model is, in a sentence or two."""
    return MODELS.get(results.model, f"The model {results.model}.")


def is_fashion_mnist(results: Results) -> bool:
    """Whether the run is of exactly the images that reported accuracies are of."""
    return bool(results.dataset["sha256"] == CANONICAL_SHA256["fashion_mnist"])
