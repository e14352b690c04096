"""What a run's figures are called, and what they mean, in words."""

from ssl_vae.datasets.known import CANONICAL_SHA256
from ssl_vae.results import Results

PROTOCOLS = {
    "inductive": "no step of the training saw the {images}, with or without labels.",
    "cross_validation": "the data has no test images. Each labeled image was judged"
    " by a classifier that was not given its label; the training saw it without.",
}
MODELS = {
    "m1": "A variational autoencoder of all training images, which learns no labels; a"
    " support vector machine on its features of the labeled few classifies.",
    "m2": "One generative model of images with a class and a style. It learns from the"
    " labeled and the unlabeled images at once, and its own q(y|x) classifies.",
    "m1_m2": "A variational autoencoder of all training images and, of its latent"
    " variable, a generative model with a class and a style, whose q(y|z) classifies.",
}
CLASSIFIERS = {
    "svm_graph": "What the machine says of an image is averaged with what it says of"
    " training images that look like it, and of those that look like them.",
    "svm_student": "A convolutional network learns from the machine's guesses about all"
    " images, and the two answer together.",
}


def held_out(results: Results) -> str:
    """What kind of accuracy it is: "test", "validation" or "cross-validation"."""
    if any(row.protocol == "cross_validation" for row in results.results):
        return "cross-validation"
    return results.held_out


def images(results: Results) -> str:
    """Which images the accuracy is of."""
    kind = held_out(results)
    return "labeled images" if kind == "cross-validation" else f"{kind} images"


def splits(results: Results) -> str:
    """What the accuracies of a row are of: choices, or folds, of the labeled images."""
    return "folds" if held_out(results) == "cross-validation" else "choices"


def seeds(results: Results) -> str:
    """What the accuracies are means over, if the run has VAEs of several seeds."""
    rows = [row for row in results.results if row.seeds]
    if not rows:
        return ""
    first, last = rows[0].seeds[0], rows[0].seeds[-1]
    deviations = ", ".join(f"{100 * row.std_over_seeds:.2f}" for row in rows)
    return (
        f"Each accuracy is the mean over {len(rows[0].seeds)} VAEs, of the seeds"
        f" {first} to {last}, which differ by a standard deviation of {deviations}"
        " points; all else is of the first."
    )


def protocols(results: Results) -> dict[str, str]:
    """The protocols of a run's rows, and what each means, if it is known."""
    names = dict.fromkeys(row.protocol for row in results.results)
    return {n: PROTOCOLS.get(n, "").format(images=images(results)) for n in names}


def model(results: Results) -> str:
    """What the model is, in a sentence or two."""
    text = MODELS.get(results.model, f"The model {results.model}.")
    return f"{text} {CLASSIFIERS.get(results.results[-1].classifier, '')}".rstrip()


def is_fashion_mnist(results: Results) -> bool:
    """Whether the run is of exactly the images that reported accuracies are of."""
    return bool(results.dataset["sha256"] == CANONICAL_SHA256["fashion_mnist"])
