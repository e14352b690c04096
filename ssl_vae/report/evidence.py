"""The arrays that a report is drawn from, and their file, report.npz.

All of them are of one model: that of the most labels, first label split; in
cross-validation, what is said of images is by the classifiers of the folds. Each part
may be missing. K classes, images [H, W, C] of at most `SIDE` pixels a side.
"""

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ssl_vae.errors import InputError, in_a_line
from ssl_vae.files import replacing

Evidence = Mapping[str, np.ndarray]

FILE = "report.npz"
SIDE = 48
MAX_BYTES = 2**27  # unpacked; a run's own has well under a hundredth of it

# Type and number of axes.
FORM: dict[str, tuple[str, int]] = {
    "class_names": ("str", 1),  # [K]
    "confusion": ("int32", 2),  # number of images by true and likeliest class, [K, K]
    "reliability": ("float32", 2),  # of `confidence.reliability`, [3, 15]
    "surest": ("float32", 2),  # share of images answered, accuracy on them, [2, n]
    "mistakes": ("uint8", 4),  # images, those with the surest wrong class first
    "mistakes_classes": ("int32", 2),  # true and likeliest class, [n, 2]
    "mistakes_probs": ("float32", 2),  # of these two, [n, 2]
    "plane": ("float32", 2),  # features on their first two principal components, [n, 2]
    "plane_labels": ("int32", 1),  # [n]
    "plane_share": ("float32", 0),  # of the variance, in [0, 1]
    "variances": ("float32", 1),  # of each unit of the features, [latent]
    "active_variance": ("float32", 0),  # above it a unit counts as active
    "originals": ("uint8", 4),  # one image of each class
    "originals_classes": ("int32", 1),
    "reconstructions": ("uint8", 4),  # of the originals
    "samples": ("uint8", 5),  # a grid of images decoded from draws of the prior
    "styles": ("uint8", 5),  # styles drawn from the prior [n], each in every class
    "analogies": ("uint8", 5),  # the style of each original in every class
    "traversals": ("uint8", 5),  # a row a unit, from -3 to 3 standard deviations
    "traversed": ("int32", 1),  # the units
}


def save(folder: Path, evidence: Evidence) -> None:
    """Writes the file in one rename."""
    with replacing(folder / FILE) as partial, partial.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **evidence)


def load(folder: Path) -> Evidence:
    """What `save` wrote; empty where there is no file.

    Raises:
      InputError: naming the file, when it holds anything else.
    """
    path = folder / FILE
    if not path.exists():
        return {}
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > MAX_BYTES:
                raise ValueError(f"more than {MAX_BYTES} bytes")
        with np.load(path, allow_pickle=False) as file:
            evidence = {name: file[name] for name in file.files}
        _check(evidence)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(
            f"{path}: not the arrays of a report ({in_a_line(error)}); without this"
            " file the report is made without pictures"
        ) from None
    return evidence


def _check(evidence: Evidence) -> None:
    for name, array in evidence.items():
        kind, ndim = FORM.get(name, ("", -1))
        of_kind = array.dtype.kind == "U" if kind == "str" else array.dtype == kind
        if not of_kind or array.ndim != ndim:
            raise ValueError(f"{name} is {array.dtype} of {array.ndim} axes")
