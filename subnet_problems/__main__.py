"""Entry point of ``python -m subnet_problems`` and of the script ``subnet-problems``."""

from __future__ import annotations

import os
import sys

# PyTorch's idle threads leave the CPUs to the simulator; PyTorch reads it when it is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from .command import main

if __name__ == "__main__":
    sys.exit(main())
