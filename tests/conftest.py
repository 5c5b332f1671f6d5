"""What all tests share: quiet libraries, and one Ray for the tests of a file that need it."""

import os

# On AMD processors the bits of MKL's wide products depend on where in memory they lie, unless it is told otherwise.
os.environ.setdefault("MKL_CBWR", "COMPATIBLE")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # idle threads of one process leave the CPUs to the others
os.environ["EVOTORCH_VERBOSE_LEVEL"] = "0"  # EvoTorch reads it when it is imported, and logs to stderr without it

import environments
import numpy as np
import pytest
import torch
from environments import Echo, MoodyFolder


@pytest.fixture
def moody(tmp_path):
    return MoodyFolder(tmp_path)


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
    """No test may pass or fail by what was drawn before it."""
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
