"""How policies meet environments: one file for each simulator, all with the same four methods.

To add one, write its file and add it to ``SIMULATORS``.
"""

from ._envpool import EnvPoolKind
from ._gymnasium import GymnasiumKind
from ._simulator import Playground, Simulator, SimulatorError, SimulatorKind

__all__ = ["SIMULATORS", "Playground", "Simulator", "SimulatorError", "SimulatorKind"]

#: By the names that ``backend`` takes. ``"auto"`` is the first one that serves the environment.
SIMULATORS: dict[str, SimulatorKind] = {"envpool": EnvPoolKind(), "gymnasium": GymnasiumKind()}
