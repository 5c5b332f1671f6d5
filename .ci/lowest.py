"""Print constraints that pin each direct dependency to its lower bound in pyproject.toml, for the extra ``fast`` too.

PyTorch stays at the tested version: older ones come with several gigabytes of CUDA.
"""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]

project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
tested = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
for requirement in [*project["dependencies"], *project["optional-dependencies"]["fast"]]:
    name, bound = re.fullmatch(r"([\w-]+)(?:\[\w+\])?>=([\w.]+)(?:;.*)?", requirement).groups()
    print(f"{name}=={tested['torch'] if name == 'torch' else bound}")
