"""Models as pure functions of their parameters; no training loop, no files."""

from typing import Any

from ssl_vae.models.m1 import M1

__all__ = ["M1", "build"]


def build(*, name: str, pixels: int, **fields: Any) -> M1:
    """The model that a recipe's `model` group describes, for images of `pixels`."""
    return {"m1": M1}[name](pixels=pixels, **fields)
