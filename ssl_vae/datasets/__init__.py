"""Labeled image data sets, from whatever source a machine has.

``load`` returns the same arrays in the same order whether the images come from TFDS,
from the four IDX files or from Debian's package.
"""

from ssl_vae.datasets.cache import cache_dir
from ssl_vae.datasets.dataset import Dataset, Images
from ssl_vae.datasets.sources import load

__all__ = ["Dataset", "Images", "cache_dir", "load"]
