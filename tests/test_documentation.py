"""Every Python block of the README and the documentation runs, in order.

Slow parts are shortened: searches run for one generation of short episodes, or a thousandth of their budgets, and tests
have two episodes.
"""

import re
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from evotorch.algorithms import SearchAlgorithm
from small_subnetworks import lander

from subnet_problems import GymProblem, MaskedGymProblem, Subnetwork
from subnet_problems.experiments import _sparsify

ROOT = Path(__file__).parents[1]
PAGES = {
    str(path.relative_to(ROOT)): re.findall(r"```python\n(.*?)```", path.read_text(), flags=re.DOTALL)
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
}


@pytest.fixture
def short(monkeypatch, tmp_path):
    """A working directory with the file that the pages use, and shortened searches and tests."""
    monkeypatch.chdir(tmp_path)
    lander().save("lander.safetensors")
    plt.switch_backend("Agg")
    in_full = {kind: kind.test for kind in (MaskedGymProblem, Subnetwork)}
    monkeypatch.setattr(SearchAlgorithm, "run", run_shortly)
    monkeypatch.setattr(_sparsify, "sparsify", partial(_sparsify.sparsify, budget=1_000, test_episodes=2))
    for kind, test in in_full.items():
        monkeypatch.setattr(
            kind, "test", lambda owner, *x, _test=test, **options: _test(owner, *x, **{**options, "num_episodes": 2})
        )


def run_shortly(searcher, generations):
    """Run one generation; episodes of Gymnasium's tasks have 30 steps."""
    problem = searcher.problem
    if not isinstance(problem, GymProblem):
        searcher.step()
        return
    before, problem.episode_length = problem.episode_length, 30
    searcher.step()
    problem.episode_length = before


def shortened(block):
    """Divide budgets of 100,000 steps or more, such as ``300_000``, by 1,000."""
    return re.sub(r"\b(\d{3}|\d_\d{3})_000\b", r"\1", block)


@pytest.mark.parametrize("page", [page for page, blocks in PAGES.items() if blocks])
def test_the_blocks_of_a_page_run(page, short, capsys):
    names = {"__name__": "page"}
    for number, block in enumerate(PAGES[page], 1):
        exec(compile(shortened(block), f"{page}, block {number}", "exec"), names)
    plt.close("all")
