"""Global settings of the process, changed by a user or by other threads, do not affect results."""

import logging
import threading
import warnings

import numpy as np
import pytest
import torch
from environments import OddSpaces
from small_subnetworks import NETWORKS, assert_same, make
from torch import nn

from algorithms import ElitistGaussianResampling
from subnet_problems import DenseGymProblem, MaskedGymProblem, Subnetwork


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def results(path, **options):
    """The results of a short search: center, tests, runs, actions and fitness."""
    options = {"env_config": {"discrete": False}, "episode_length": 10, "seed": 1, "hidden_sizes": (3,)} | options
    problem = MaskedGymProblem(OddSpaces, sparsity=0.5, observation_normalization=True, **options)
    searcher = ElitistGaussianResampling(problem, popsize=8)
    searcher.run(3)
    center = searcher.status["center"]
    found = [torch.as_tensor(center), problem.test(center, num_episodes=2)]
    found.append(problem.run(problem.to_policy(center), seed=1)["cumulative_reward"])
    subnet = problem.to_subnetwork(center)
    subnet.save(path)
    loaded = Subnetwork.load(path)
    obs = np.linspace(-1, 1, 6)
    found += [loaded.act(obs), problem.run(loaded.to_policy(), seed=1)["cumulative_reward"]]
    found += [loaded.prune().act(obs)] if isinstance(loaded.network.architecture, tuple) else []
    dense = DenseGymProblem(OddSpaces, **options)
    found.append(dense.evaluate_array(np.linspace(-1, 1, dense.solution_length)))
    return found


@pytest.mark.parametrize("options", [{}, {"hidden_sizes": None, "network": "RNN(6, 3) >> Linear(3, 4)"}], ids=str)
def test_results_do_not_depend_on_the_default_dtype(tmp_path, options, request):
    expected = results(tmp_path / "a.safetensors", **options)
    request.getfixturevalue("double")
    for got, value in zip(results(tmp_path / "b.safetensors", **options), expected, strict=True):
        np.testing.assert_array_equal(np.asarray(got), np.asarray(value))
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


@pytest.mark.parametrize("name", NETWORKS)
def test_loading_does_not_depend_on_the_default_dtype(tmp_path, name, request):
    network, options, again = NETWORKS[name]
    subnet = make(network, options=options)
    subnet.save(tmp_path / "a.safetensors")
    request.getfixturevalue("double")
    loaded = Subnetwork.load(tmp_path / "a.safetensors", network=again)
    assert_same(loaded, subnet)
    assert {p.dtype for p in (*loaded.to_policy().parameters(), *loaded.to_policy().buffers())} == {torch.float32}


@pytest.mark.usefixtures("double")
def test_exports_are_float32_regardless_of_the_default_dtype(tmp_path):
    onnx = pytest.importorskip("onnx")
    for network in ((6, 5), nn.Sequential(nn.Linear(4, 3), nn.Sigmoid(), nn.Linear(3, 2)).float()):
        make(network).export_onnx(tmp_path / "a.onnx")
        model = onnx.load(tmp_path / "a.onnx")
        tensors = [*model.graph.initializer, *(x.type.tensor_type for x in model.graph.input)]
        assert {getattr(t, "data_type", None) or t.elem_type for t in tensors} <= {
            onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
        }  # fmt: skip


def test_concurrent_exports_restore_warning_filters_and_log_levels(tmp_path):
    pytest.importorskip("onnxscript")
    logger = logging.getLogger("torch.onnx")
    before = logger.level, list(warnings.filters)
    threads = [threading.Thread(target=make().export_onnx, args=(tmp_path / f"{i}.onnx",)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (logger.level, list(warnings.filters)) == before
    assert len(list(tmp_path.iterdir())) == 3
