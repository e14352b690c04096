"""Public data sets that are recognized by the digests of their unpacked files."""

from pathlib import Path

from ssl_vae.errors import InputError

DOWNLOADABLE = ("fashion_mnist", "mnist", "kmnist")

_CLASS_NAMES = {
    "fashion_mnist": (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    )
}

# sha256 of the unpacked files: those of the .gz files differ between distributors.
_SHA256 = {
    "fashion_mnist": {
        "train-images-idx3-ubyte": (
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"
        ),
        "train-labels-idx1-ubyte": (
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"
        ),
        "t10k-images-idx3-ubyte": (
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"
        ),
        "t10k-labels-idx1-ubyte": (
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"
        ),
    },
    "mnist": {
        "train-images-idx3-ubyte": (
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"
        ),
        "train-labels-idx1-ubyte": (
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"
        ),
        "t10k-images-idx3-ubyte": (
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"
        ),
        "t10k-labels-idx1-ubyte": (
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"
        ),
    },
}

# `Dataset.sha256` of the decoded arrays in canonical order, whatever they came from.
CANONICAL_SHA256 = {
    "fashion_mnist": "ecb7b5aa6e4d1524b81ff7f844657e00bdc4c125e0b8f9384ade040fc6220bf1"
}


def check_content(name: str, sha256: str, folder: Path) -> None:
    """Refuses decoded images that do not hold the public data set they are named after.

    Args:
      name: of the data set, whose files cannot be recognized one by one.
      sha256: `Dataset.sha256` of what was read.
      folder: where they lie, for the message.

    Raises:
      InputError: with both digests.
    """
    expected = CANONICAL_SHA256.get(name, sha256)
    if sha256 != expected:
        raise InputError(
            f"{folder} does not hold {name}: the digest of its content is "
            f"{sha256[:12]}, expected {expected[:12]}; prepare it again, or "
            "give a data set of your own a name of its own"
        )


def class_names(name: str, values: list[int]) -> tuple[str, ...]:
    """Names of the classes with these label values, the values as text by default."""
    names = _CLASS_NAMES.get(name, ())
    if values == list(range(len(names))):
        return names
    return tuple(str(value) for value in values)


def recognize(digests: dict[str, str], folder: Path) -> str | None:
    """Name of the public data set with these files, None for a set of one's own.

    Args:
      digests: sha256 of the unpacked bytes by standard file name.
      folder: where the files lie, for the message.

    Raises:
      InputError: some of the files are those of a public data set and others differ.
    """
    for name, expected in _SHA256.items():
        if digests == expected:
            return name
        if set(digests.values()) & set(expected.values()):
            raise InputError(_differences(name, digests, folder))
    return None


def _differences(name: str, digests: dict[str, str], folder: Path) -> str:
    expected = _SHA256[name]
    owner = {digest: file for file, digest in expected.items()}
    faults = []
    for file, digest in digests.items():
        if digest in owner and owner[digest] != file:
            faults.append(f"{file} is {owner[digest]} under another name")
        elif digest != expected[file]:
            faults.append(
                f"{file} has sha256 {digest[:12]}, expected {expected[file][:12]}"
            )
    return (
        f"{folder} holds {name} with wrong files ({'; '.join(faults)}): get these "
        "files again, or give a data set of your own a folder of its own"
    )
