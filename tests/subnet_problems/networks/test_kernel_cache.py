"""What Numba caches on disk names no class of this package, so that a later version can read it."""

import pickletools
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_caches_of_kernels_name_no_class_of_the_package(tmp_path):
    code = (
        "import torch; from subnet_problems import MaskedGymProblem\n"
        "for sparsity in (0.5, 0.99):\n"
        "    problem = MaskedGymProblem('CartPole-v1', hidden_sizes=(80, 80), sparsity=sparsity, seed=0)\n"
        "    problem.evaluate_array(problem.generate_batch(4).values)\n"
    )
    environment = {"NUMBA_CACHE_DIR": str(tmp_path), "PATH": "", "EVOTORCH_VERBOSE_LEVEL": "0"}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True)
    indices = list(tmp_path.rglob("*.nbi"))
    kernels = {index.name.split(".")[0] for index in indices}
    assert {"_chain_kernel", "_sparse_kernel", "_order_kernel", "_step_kernel"} <= kernels
    for index in indices:
        data = index.read_bytes()
        while data:  # two pickles: Numba's version, then the index
            words = [(operation.name, word) for operation, word, _ in pickletools.genops(data)]
            assert not [word for _, word in words if isinstance(word, str) and "subnet_problems" in word], index.name
            data = data[_end(data) :]


def _end(data: bytes) -> int:
    """Where the first pickle of ``data`` ends."""
    return max(place for _, _, place in pickletools.genops(data)) + 1
