"""Shared by all tests: quiet libraries, and one Ray cluster per file of tests that needs it."""

import os

# By default, on AMD CPUs, the last bits of MKL's matrix products depend on memory addresses.
os.environ.setdefault("MKL_CBWR", "COMPATIBLE")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # idle threads of one process leave the CPUs to the others
os.environ.setdefault("RAY_preload_python_modules", "subnet_problems")  # as if the problem had started Ray
os.environ["EVOTORCH_VERBOSE_LEVEL"] = "0"  # read when EvoTorch is imported; without it, EvoTorch logs to stderr

import environments
import numpy as np
import pytest
import torch
from environments import Echo, FaultFile


@pytest.fixture
def fault_file(tmp_path):
    return FaultFile(tmp_path)


@pytest.fixture
def echo_log():
    Echo.log.clear()
    Echo.made_with.clear()
    return Echo.log


@pytest.fixture(scope="module")
def ray_cluster():
    import ray

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=80 * 2**20)
    ray.cloudpickle.register_pickle_by_value(environments)  # actors cannot import this file
    yield
    ray.shutdown()


@pytest.fixture(autouse=True)
def _fixed_global_generators():
    """The result of a test must not depend on random draws in earlier tests."""
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
