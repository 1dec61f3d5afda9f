"""Imported once by the process that the tests' commands are forked from."""

import alembic.command  # noqa: F401
import scipy.stats  # noqa: F401
import torchvision.datasets  # noqa: F401

from dia_repro.cli.main import command
from tests import nested

command()
nested.install()
