"""The forward pass on a GPU: its packing and buffers on the CPU; its kernel by Triton's interpreter and compiler.

``problems/test_cuda.py`` tests it on a GPU, where there is one.
"""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernels import step_by_pytorch
from test_policies import ACT, OBS, bits, observations, rows_of
from test_sparse import masks_of

from subnet_problems import FrozenNetwork
from subnet_problems.masks._apply import masked_weights
from subnet_problems.networks._weights import as_weights
from subnet_problems.networks.forward import _gpu
from subnet_problems.networks.forward._chain import ChainPolicy, as_chain, plan_of
from subnet_problems.networks.forward._gpu import GpuPolicy
from subnet_problems.networks.forward._population import make_population
from subnet_problems.networks.forward._way import Population

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="Triton comes with PyTorch for GPUs")
CPU = torch.device("cpu")


@given(
    hidden=st.lists(st.integers(1, 40), max_size=3).map(tuple), bias=st.booleans(), density=st.floats(0.0, 1.0),
    num_episodes=st.integers(1, 5), seed=st.integers(0, 99), rescale=st.booleans(),
    values=st.sampled_from([(0, 1), (-1, 0, 1), None]),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_a_step_has_the_bits_of_the_cpus_kernel_also_after_episodes_have_ended(
    hidden, bias, density, num_episodes, seed, rescale, values
):
    network = FrozenNetwork(hidden, obs_length=OBS, act_length=ACT, bias=bias, seed=seed)
    mask = masks_of(network, density, seed=seed, values=values or (0, 1))
    weights = masked_weights(network.weights, mask, network.layers, rescale=rescale)
    weights = weights if values else as_weights(weights.dense())
    assert_same_bits(network, weights, num_episodes=num_episodes, kernel=step_by_pytorch)


def test_steps_are_float32_whatever_pytorchs_default_is():
    network = FrozenNetwork((9, 5), obs_length=OBS, act_length=ACT, bias=True)
    mask = masks_of(network, 0.5)
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        for rescale in (True, False):
            weights = masked_weights(network.weights, mask, network.layers, rescale=rescale)
            assert_same_bits(network, weights, kernel=step_by_pytorch)
            assert_same_bits(network, as_weights(weights.dense()), kernel=step_by_pytorch)
    finally:
        torch.set_default_dtype(before)


def test_a_policy_made_in_inference_mode_acts_in_another_thread():
    network = FrozenNetwork((9, 5), obs_length=OBS, act_length=ACT)
    weights = masked_weights(network.weights, masks_of(network, 0.5), network.layers, rescale=True)
    plan, rows = plan_of(as_chain(network._module)), rows_of(8)
    with torch.inference_mode():
        policy = GpuPolicy(weights, plan, num_episodes=2, device=CPU, kernel=step_by_pytorch)
    with ThreadPoolExecutor(1) as pool:
        there = pool.submit(policy.act, rows, observations(1, 8)[0]).result()
    assert bits(there) == bits(ChainPolicy(weights, plan, num_episodes=2).act(rows, observations(1, 8)[0]))


def assert_same_bits(network, weights, *, num_episodes=3, kernel=None):
    plan = plan_of(as_chain(network._module))
    policies = (
        ChainPolicy(weights, plan, num_episodes=num_episodes),
        GpuPolicy(weights, plan, num_episodes=num_episodes, device=CPU, kernel=kernel),
    )
    rows = rows_of(len(weights) * num_episodes)
    obs = observations(1, len(rows))[0]
    for live in (rows, rows, rows[1::2], rows[-1:]):
        here, there = (bits(policy.act(live, obs[live])) for policy in policies)
        assert here == there
    for number in (np.nan, np.inf, -0.0):
        obs[-1] = number
        here, there = (policy.act(rows[-1:], obs[-1:]) for policy in policies)
        assert bits(np.nan_to_num(here)) == bits(np.nan_to_num(there))
        assert np.array_equal(np.isnan(here), np.isnan(there))


@needs_triton
def test_the_kernel_has_the_bits_of_the_cpus_kernel_in_tritons_interpreter():
    script = (
        "import test_gpu as t; from test_sparse import masks_of; from subnet_problems import FrozenNetwork\n"
        "from subnet_problems.masks._apply import masked_weights\n"
        "relu = 'Linear(obs_length, 20) >> ReLU() >> Linear(20, act_length)'\n"
        "for hidden, bias, rescale in (((20, 17), True, True), (relu, False, True), ((40,), False, False)):\n"
        "    network = FrozenNetwork(hidden, obs_length=t.OBS, act_length=t.ACT, bias=bias)\n"
        "    masked = masked_weights(network.weights, masks_of(network, 0.5), network.layers, rescale=rescale)\n"
        "    t.assert_same_bits(network, masked); t.assert_same_bits(network, t.as_weights(masked.dense()))\n"
        "print('same bits')"
    )
    here = Path(__file__).parent
    path = os.pathsep.join([str(here), str(here.parents[1] / "support"), str(here.parents[2])])
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": path}
    result = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    assert result.stdout.strip() == "same bits", result.stderr


@needs_triton
@pytest.mark.filterwarnings("ignore::DeprecationWarning:triton")
def test_the_kernel_compiles_for_gpus_and_rounds_each_product_by_itself():
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from subnet_problems.networks.forward._gpu_kernel import _forward

    floats, numbers = ("weights", "scales", "obs", "scratch", "outputs"), ("bits", "plan", "rows")
    signature = {
        name: "*fp32" if name in floats else "*i32" if name in numbers else "i32" for name in _forward.arg_names
    }
    signature["outputs_at_a_time"] = "constexpr"
    source = ASTSource(fn=_forward, signature=signature, constexprs={"outputs_at_a_time": 128})
    made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"enable_fp_fusion": False})
    assert len(made.asm["cubin"]) > 1000
    assert "mul.rn.f32" in made.asm["ptx"]
    assert not [word for word in ("fma", "max.f32", "min.f32") if word in made.asm["ptx"]]  # these lose NaN


def test_a_gpus_kernel_computes_chains_only_and_pytorch_does_so_with_a_warning_where_it_cannot_run(monkeypatch):
    network = FrozenNetwork((8,), obs_length=OBS, act_length=ACT)
    weights = masked_weights(network.weights, masks_of(network, 0.5), network.layers, rescale=False)
    gpu = torch.device("cuda")
    chain, other = (
        Population(module, network.layers, weights, 1, gpu) for module in (network._module, torch.nn.GELU())
    )
    monkeypatch.setattr(_gpu, "_kernel_runs", lambda device: device == gpu)
    monkeypatch.setattr(_gpu, "GpuPolicy", lambda *args, device, **options: device)
    assert make_population(chain) == gpu
    assert _gpu.gpu_population(other) is None
    assert isinstance(network.population(weights, num_episodes=1), ChainPolicy)

    monkeypatch.undo()
    monkeypatch.setattr(_gpu, "find_spec", lambda name: None)
    _gpu._kernel_runs.cache_clear()
    assert _gpu.gpu_population(chain) is None

    def refuse(*args, **options):
        raise RuntimeError("Failed to find C compiler")

    monkeypatch.setattr(_gpu, "find_spec", lambda name: object())
    monkeypatch.setattr(_gpu, "GpuPolicy", refuse)
    _gpu._kernel_runs.cache_clear()
    with pytest.warns(UserWarning, match="Triton's kernel does not run on cuda.*: .*Failed to find C compiler"):
        assert _gpu.gpu_population(chain) is None
    assert _gpu.gpu_population(chain) is None  # said once
    _gpu._kernel_runs.cache_clear()
