"""The public Python API."""

from __future__ import annotations

import subprocess
import sys

import pytest

import dia_repro


def test_import_is_light() -> None:
    program = (
        "import time; begun = time.perf_counter(); import dia_repro, sys; "
        "print(time.perf_counter() - begun, dir(dia_repro)); "
        "assert not {'torch', 'pandas', 'numpy', 'sqlalchemy'} & set(sys.modules)"
    )
    seconds, *_ = subprocess.check_output([sys.executable, "-c", program], text=True).split()
    assert float(seconds) < 0.3


def test_public_names_are_found() -> None:
    for name in dia_repro.__all__:
        assert getattr(dia_repro, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'rum'"):
        _ = dia_repro.rum
