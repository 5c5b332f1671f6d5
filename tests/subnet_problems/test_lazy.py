"""Modules that are loaded at their first use."""

import subprocess
import sys

SCRIPT = """
import sys
from subnet_problems import MaskedGymProblem
from evotorch.algorithms import PyCMAES
print("cma.evolution_strategy" in sys.modules, "matplotlib" in sys.modules)
problem = MaskedGymProblem("CartPole-v1", hidden_sizes=(2,), episode_length=5, seed=0)
searcher = PyCMAES(problem, stdev_init=0.1, popsize=4, center_init=problem.make_zeros(problem.solution_length))
searcher.run(1)
print("cma.evolution_strategy" in sys.modules, searcher.step_count)
import cma, evotorch.algorithms.pycmaes
print(cma.CMAEvolutionStrategy is evotorch.algorithms.pycmaes.cma.CMAEvolutionStrategy, bool(cma.__version__))
"""


def output_of(script):
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=200)
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()


def test_pycma_is_loaded_only_for_the_search_that_needs_it():
    assert [line for line in output_of(SCRIPT) if line[0] in "TF"] == ["False False", "True 1", "True True"]


def test_a_deferred_module_is_loaded_once_and_missing_names_are_errors(tmp_path):
    (tmp_path / "slow").mkdir()
    (tmp_path / "slow" / "__init__.py").write_text("print('loaded'); from . import part; name = part.name")
    (tmp_path / "slow" / "part.py").write_text("name = 5")
    (tmp_path / "broken.py").write_text("1 / 0")
    script = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
from subnet_problems._lazy import defer
for name in ("slow", "broken", "json", "not_installed"):
    defer(name)
import json, slow, slow.part, broken
print(json.dumps(1), slow.__file__[-11:], slow.part.name, hasattr(slow, "__wrapped__"))
print(slow.name, hasattr(slow, "other"), slow.name)
for _ in range(2):
    try:
        broken.name
    except ZeroDivisionError:
        print("division")
import slow as again
print(again.name)
"""
    assert output_of(script) == ["1 __init__.py 5 False", "loaded", "5 False 5", "division", "division", "5"]
