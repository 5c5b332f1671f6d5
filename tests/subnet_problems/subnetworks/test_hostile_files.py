"""Thousands of damaged and forged files, in a process with little memory."""

import json
import os
import subprocess
import sys
from pathlib import Path

#: The number of files; ``HOSTILE_FILES=20000`` takes a minute.
COUNT = os.environ.get("HOSTILE_FILES", "1500")


def test_hostile_files_are_refused_use_little_memory_and_run_no_code():
    script = Path(__file__).parents[2] / "support" / "hostile_files.py"
    done = subprocess.run([sys.executable, script, COUNT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    print(done.stdout)
    outcomes = report["outcomes"]
    assert report["wrong"] == []
    assert sum(outcomes.values()) == int(COUNT)
    assert outcomes["damaged: refused"] > int(COUNT) / 2
    assert outcomes["forged: refused"] > int(COUNT) / 20
    assert "damaged: loads the same" not in outcomes
    assert report["peak_mebibytes"] < 100
