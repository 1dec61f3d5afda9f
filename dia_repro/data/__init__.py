"""Data sets: where their images come from, and how batches are made of them."""

from __future__ import annotations

from pathlib import Path

from dia_repro.data.dataset import DataError, Dataset, Images

__all__ = ["DataError", "Dataset", "Images", "load"]


def load(name: str, root: Path) -> Dataset:
    """The data set of that name; `root` is the folder that holds downloaded ones.

    Raises:
        DataError: it is not there, or damaged.
    """
    if name == "digits":
        from dia_repro.data.digits import load_digits

        return load_digits()
    from dia_repro.data.cifar import load_cifar

    return load_cifar(name, root)
