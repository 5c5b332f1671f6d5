"""Simulators that step environments: one file each, all with the same four methods.

To add a simulator, write its file and add it to ``SIMULATORS``.
"""

from ._envpool import EnvPoolKind
from ._gymnasium import GymnasiumKind
from ._simulator import Playground, Simulator, SimulatorError, SimulatorKind

__all__ = ["SIMULATORS", "Playground", "Simulator", "SimulatorError", "SimulatorKind"]

#: The simulators by the names that ``backend`` accepts. ``"auto"`` is the first one that can serve the environment.
SIMULATORS: dict[str, SimulatorKind] = {"envpool": EnvPoolKind(), "gymnasium": GymnasiumKind()}
