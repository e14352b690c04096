"""Small images inside a page: PNG as data addresses."""

import base64
import io

import numpy as np
from PIL import Image


def data_uri(images: np.ndarray) -> str:
    """One PNG of a grid of images with a clear line between them.

    Args:
      images: uint8 [rows, columns, H, W, C]; a number of channels that is neither 1
        nor 3 is shown as their mean.
    """
    rows, columns, height, width, channels = images.shape
    if channels not in (1, 3):
        images, channels = images.mean(axis=-1, keepdims=True).astype(np.uint8), 1
    clear = np.full([*images.shape[:-1], 1], 255, np.uint8)
    grid = np.pad(
        np.concatenate([images, clear], axis=-1),
        [(0, 0), (0, 0), (0, 1), (0, 1), (0, 0)],
    )
    sheet = grid.swapaxes(1, 2).reshape(rows * (height + 1), columns * (width + 1), -1)
    file = io.BytesIO()
    Image.fromarray(sheet[:-1, :-1]).save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def single(image: np.ndarray) -> str:
    """One image, uint8 [H, W, C]."""
    return data_uri(image[None, None])


def strip(images: np.ndarray) -> str:
    """Images side by side, uint8 [n, H, W, C]."""
    return data_uri(images[None])
