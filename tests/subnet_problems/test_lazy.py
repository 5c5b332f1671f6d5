"""Pycma, which EvoTorch imports, is loaded at its first use."""

import subprocess
import sys

import pytest

SEARCH = """
import sys
from subnet_problems import MaskedGymProblem
from evotorch.algorithms import PyCMAES, pycmaes
print("cma" in sys.modules, "matplotlib" in sys.modules)
problem = MaskedGymProblem("CartPole-v1", hidden_sizes=(2,), episode_length=5, seed=0)
searcher = PyCMAES(problem, stdev_init=0.1, popsize=4, center_init=problem.make_zeros(problem.solution_length))
searcher.run(1)
print("cma.evolution_strategy" in sys.modules, searcher.step_count)
import cma
print(cma.CMAEvolutionStrategy is pycmaes.cma.CMAEvolutionStrategy, cma.__version__ == pycmaes.cma.__version__)
"""
USER = """
import subnet_problems
from subnet_problems import MaskedGymProblem
import cma.evolution_strategy
from evotorch.algorithms import pycmaes
print(cma.__version__ == pycmaes.cma.__version__, pycmaes.cma.evolution_strategy is cma.evolution_strategy)
"""
MISSING = """
import sys
sys.modules["cma"] = None
import subnet_problems
from evotorch.algorithms import pycmaes
print(pycmaes.cma)
"""


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (SEARCH, ["False False", "True 1", "True True"]),
        (USER, ["True True"]),
        ("import subnet_problems, evotorch.algorithms, sys, cma; print(cma.__version__ > '3')", ["True"]),
        ("import evotorch.algorithms, subnet_problems, sys; print('cma.evolution_strategy' in sys.modules)", ["True"]),
        (MISSING, ["None"]),
    ],
    ids=["a search that needs it", "a user's own import", "after EvoTorch", "EvoTorch came first", "not installed"],
)
def test_pycma_is_loaded_at_its_first_use(script, expected):
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=200)
    assert run.returncode == 0, run.stderr
    assert [line for line in run.stdout.splitlines() if line.startswith(("True", "False", "None"))] == expected
