"""A sweep small enough for a test: the pictures, supervisor and settings of the runs in `tests.train`."""

from tests.train.conftest import base, small

__all__ = ["base", "small"]
