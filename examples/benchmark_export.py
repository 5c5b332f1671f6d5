"""What does a sparse policy cost on a robot? Bytes of flash and RAM and microseconds per decision in C, PyTorch, ONNX.

Policies for LunarLander and BipedalWalker with hidden layers (87, 87), at sparsity 0.5, 0.9 and 0.95, come from short
searches. They are exported in both C forms and compared with the dense network of the same shape: in C (by rows or by
columns, whichever is faster, with the same tanh), in PyTorch and in onnxruntime. All C is compiled by gcc -O2 -std=c99.
Flash is the code and constants of the compiled policy, RAM its stack. A decision processes one observation.

    python examples/benchmark_export.py

Prints a table; --output writes it to a Markdown file.
"""

from __future__ import annotations

import argparse
import ctypes
import logging
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("EVOTORCH_VERBOSE_LEVEL", "0")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import onnxruntime
import torch

from algorithms import ElitistGaussianResampling
from subnet_problems import MaskedGymProblem, Subnetwork

TASKS = {
    "LunarLander, continuous": ("LunarLander-v3", {"continuous": True}),
    "BipedalWalker": ("BipedalWalker-v3", {}),
}
SPARSITIES = [0.5, 0.9, 0.95]
CALLER = """
#include "policy.h"
void act(const float *obs, float *acts, int count)
{
    for (int i = 0; i < count; ++i)
        policy_act(obs + i * POLICY_OBS_LENGTH, acts + i * POLICY_ACT_LENGTH);
}
"""
BY_ROWS = """
static inline void policy_layer(const float *x, float *y, int rows, int columns, const float *weights)
{
    for (int row = 0; row < rows; ++row) {
        float sum = 0.0f;
        for (int column = 0; column < columns; ++column)
            sum += weights[row * columns + column] * x[column];
        y[row] = sum;
    }
}
"""
BY_COLUMNS = """
static inline void policy_layer(const float *x, float *y, int rows, int columns, const float *weights)
{
    for (int row = 0; row < rows; ++row)
        y[row] = 0.0f;
    for (int column = 0; column < columns; ++column)
        for (int row = 0; row < rows; ++row)
            y[row] += weights[column * rows + row] * x[column];
}
"""

Decide = Callable[[int], None]


def search(task: str, sparsity: float, budget: int) -> Subnetwork:
    """Search a policy for a task at a sparsity."""
    env, env_config = TASKS[task]
    problem = MaskedGymProblem(env, env_config=env_config, hidden_sizes=(87, 87), sparsity=sparsity, seed=0)
    searcher = ElitistGaussianResampling(problem)
    while problem.interaction_count < budget:
        searcher.step()
    return problem.to_subnetwork(searcher.status["center"])


def dense_header(subnet: Subnetwork, *, by_rows: bool) -> str:
    """The header of the same network with all its weights: the sparse header with different data and loops."""
    dense = Subnetwork(subnet.network, torch.ones_like(subnet.mask), actions=subnet.actions)
    with tempfile.TemporaryDirectory() as folder:
        text = dense.export_c(folder, name="policy").read_text()
    data = ""
    for number, layer in enumerate(subnet.network.layers):
        matrix = subnet.network.weights[layer.slice].view(layer.shape)
        values = (matrix if by_rows else matrix.T).reshape(-1).tolist()
        data += f"static const float policy_weights{number}[] = {{{', '.join(f'{v:.9e}f' for v in values)}}};\n"
        call = rf"policy_layer\((\w+), (\w+), (\d+), policy_counts{number}, .*\);"
        text = re.sub(call, rf"policy_layer(\1, \2, \3, {layer.shape[1]}, policy_weights{number});", text)
    start, end = text.index("static const uint8_t policy_counts0"), text.index("static inline void policy_act")
    return text[:start] + data + (BY_ROWS if by_rows else BY_COLUMNS) + "\n" + text[end:]


def compile_policy(folder: Path) -> tuple[int, int, ctypes.CDLL]:
    """Compile ``folder/policy.h``. Return bytes of flash, bytes of RAM, and the library."""
    (folder / "policy.c").write_text(CALLER)
    flags = ["-O2", "-std=c99", "-fPIC", "-fstack-usage"]
    subprocess.run(["gcc", *flags, "-c", "policy.c"], cwd=folder, check=True)
    sizes = subprocess.run(["size", "policy.o"], cwd=folder, check=True, capture_output=True, text=True).stdout
    text, data, bss = map(int, sizes.splitlines()[1].split()[:3])
    stack = sum(int(line.split("\t")[1]) for line in (folder / "policy.su").read_text().splitlines())
    subprocess.run(["gcc", "-shared", "policy.o", "-o", "policy.so", "-lm"], cwd=folder, check=True)
    return text, data + bss + stack, ctypes.CDLL(str(folder / "policy.so"))


def in_c(library: ctypes.CDLL, obs: np.ndarray, act_length: int) -> Decide:
    acts = np.empty((len(obs), act_length), dtype=np.float32)
    pointers = [array.ctypes.data_as(ctypes.c_void_p) for array in (obs, acts)]
    return lambda count: library.act(*pointers, count)


def in_pytorch(subnet: Subnetwork, obs: np.ndarray) -> Decide:
    policy, inputs = subnet.to_policy(), torch.from_numpy(obs)

    def decide(count: int) -> None:
        with torch.no_grad():
            for i in range(count):
                policy(inputs[i])

    return decide


def in_onnx(subnet: Subnetwork, obs: np.ndarray, path: Path) -> Decide:
    subnet.export_onnx(path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options)

    def decide(count: int) -> None:
        for i in range(count):
            session.run(None, {"obs": obs[i : i + 1]})

    return decide


def measure(ways: dict[str, Decide], rounds: int) -> dict[str, np.ndarray]:
    """Microseconds per decision, ``(rounds,)`` for each way; each round measures all ways in turn."""
    counts = {}
    for name, decide in ways.items():
        decide(10)
        begin = time.perf_counter()
        decide(100)
        counts[name] = int(np.clip(100 * 0.1 / (time.perf_counter() - begin), 100, 10_000))
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, decide in ways.items():
            begin = time.perf_counter()
            decide(counts[name])
            times[name].append((time.perf_counter() - begin) / counts[name] * 1e6)
    return {name: np.array(values) for name, values in times.items()}


def lines_of(task: str, sparsity: float, subnet: Subnetwork, rounds: int, folder: Path) -> list[list[str]]:
    """The table rows of one policy."""
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(10_000, subnet.network.obs_length)).astype(np.float32)
    dense = Subnetwork(subnet.network, torch.ones_like(subnet.mask), actions=subnet.actions)
    ways: dict[str, Decide] = {}
    bytes_of: dict[str, tuple[int, int]] = {}
    for form in ("rows", "seed", "dense by rows", "dense by columns"):
        place = folder / form
        subnet.export_c(place, name="policy", form="seed" if form == "seed" else "rows")
        if form.startswith("dense"):
            (place / "policy.h").write_text(dense_header(subnet, by_rows=form == "dense by rows"))
        *sizes, library = compile_policy(place)
        bytes_of[form], ways[form] = (sizes[0], sizes[1]), in_c(library, obs, subnet.actions.length)
    ways["PyTorch, dense"] = in_pytorch(dense, obs)
    ways["PyTorch, masked"] = in_pytorch(subnet, obs)
    ways["onnxruntime, dense"] = in_onnx(dense, obs, folder / "dense.onnx")
    ways["onnxruntime, pruned"] = in_onnx(subnet, obs, folder / "pruned.onnx")
    times = measure(ways, rounds)
    fastest = min(("dense by rows", "dense by columns"), key=lambda name: float(np.median(times[name])))
    found = re.search(r"policy_bits\[(\d+)\]", (folder / "seed" / "policy.h").read_text())
    assert found is not None
    mask_bytes = int(found[1])
    result = []
    names = {"rows": "C, rows", "seed": "C, seed", fastest: "C, dense"}
    names |= {name: name for name in times if "onnx" in name or "PyTorch" in name}
    for name, shown in names.items():
        flash, ram = (f"{value:,}" for value in bytes_of[name]) if name in bytes_of else ("", "")
        if "onnx" in name:
            flash = f"{(folder / ('dense.onnx' if 'dense' in name else 'pruned.onnx')).stat().st_size:,} (file)"
        ratio = times[fastest] / times[name]
        result.append([
            task, f"{sparsity:g}", f"{subnet.num_active:,} ({subnet.prune().num_active:,})", shown, flash, ram,
            f"{np.median(times[name]):.2f}", f"{np.median(ratio):.2f} ({ratio.min():.2f} to {ratio.max():.2f})",
            f"{mask_bytes:,} bytes, 1/{4 * subnet.num_weights / mask_bytes:.0f}" if name == "seed" else "",
        ])  # fmt: skip
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--budget", type=int, default=300_000, help="environment steps of the search for each policy (%(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=9, help="measured rounds (%(default)s)")
    parser.add_argument("--output", type=Path, help="a Markdown file for the table")
    parser.add_argument("--quick", action="store_true", help="a short run to check that everything works")
    args = parser.parse_args()
    if args.quick:
        args.budget, args.rounds = 2_000, 1
    logging.getLogger("evotorch").setLevel(logging.WARNING)
    torch.set_num_threads(1)
    head = ["task", "sparsity", "weights kept (live)", "as", "flash", "RAM", "us a decision"]
    head += ["times as fast as dense C", "mask, of the dense weights"]
    lines = [head, ["---"] * len(head)]
    for task in TASKS:
        for sparsity in SPARSITIES:
            with tempfile.TemporaryDirectory() as folder:
                lines += lines_of(task, sparsity, search(task, sparsity, args.budget), args.rounds, Path(folder))
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
    print(text)
    if args.output is not None:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(text)


if __name__ == "__main__":
    main()
