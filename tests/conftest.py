"""What all tests share."""

import sys

from actors.inference.kernels.jit_cache import set_cache_dir
from actors.inference.worker.blas import load_blas
from tests.cache_folder import cache_folder_of_tests
from tests.measured import pytest_runtest_protocol
from tests.skip_policy import pytest_sessionfinish, pytest_terminal_summary

__all__ = ["pytest_runtest_protocol", "pytest_sessionfinish", "pytest_terminal_summary"]

# Test modules import MLX when they are collected, and it takes the BLAS that it finds then: one that came later would
# leave every real test on the shipped one, ten times slower.
if "mlx.core" not in sys.modules:
    load_blas("auto", cache_folder_of_tests())
set_cache_dir(cache_folder_of_tests())
