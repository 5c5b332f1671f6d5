"""Names of the observations and outputs of known tasks, as identifiers and in LaTeX."""

from __future__ import annotations

from dataclasses import dataclass

from ..tasks._action_rules import Actions, BoxActions, DiscreteActions
from ._parts import PolicyParts


@dataclass(frozen=True)
class Name:
    """Name of an observation, a hidden unit or an output.

    Attributes:
        text: In Python: an identifier, or an element of an array.
        latex: In a LaTeX formula.
    """

    text: str
    latex: str


@dataclass(frozen=True)
class _Task:
    """Names of a task's observations, of a Box action's numbers, and of Discrete actions. All are identifiers."""

    observations: str
    box: str = ""
    discrete: str = ""


def names_of(subnet: PolicyParts) -> tuple[list[Name], list[Name]]:
    """Names of a policy's flat observations and of its outputs.

    A known task that Gymnasium itself ships gives names of its own, if the policy has the task's spaces. All other
    names are ``obs[0]`` and ``out[0]``.
    """
    # A policy holds a registration only if the id means another environment than the one that Gymnasium ships.
    task = _TASKS.get(subnet.env or "") if subnet.registration is None else None
    observations = task.observations.split() if task is not None and subnet.observations is None else []
    outputs = [] if task is None else _outputs(task, subnet.actions)
    return _names("obs", observations, subnet.network.obs_length), _names("out", outputs, subnet.network.act_length)


def _outputs(task: _Task, actions: Actions) -> list[str]:
    match actions:
        case BoxActions():
            return task.box.split()
        case DiscreteActions(start=0):
            return task.discrete.split()
    return []


def _names(array: str, known: list[str], length: int) -> list[Name]:
    if len(known) == length:
        return [Name(name, latex(name)) for name in known]
    return [Name(f"{array}[{i}]", rf"\mathrm{{{array}}}_{{{i}}}") for i in range(length)]


def latex(name: str) -> str:
    r"""An identifier in LaTeX: ``v_x`` for ``vx``; words are upright."""
    words = name.replace("_", r"\ ")
    return _LATEX.get(name, name if len(name) == 1 else rf"\mathrm{{{words}}}")


_LATEX = {
    "vx": "v_x",
    "vy": "v_y",
    "vz": "v_z",
    "angle": r"\theta",
    "spin": r"\dot{\theta}",
    "cos_angle": r"\cos\theta",
    "sin_angle": r"\sin\theta",
    "cos1": r"\cos\theta_1",
    "sin1": r"\sin\theta_1",
    "cos2": r"\cos\theta_2",
    "sin2": r"\sin\theta_2",
    "spin1": r"\dot{\theta}_1",
    "spin2": r"\dot{\theta}_2",
}

# Names follow the docstrings of Gymnasium 1.4. If a docstring gives no name, they follow the code.

_LANDER = _Task(
    # Gymnasium's first leg is the right one: its x is larger than the lander's.
    "x y vx vy angle spin right_leg left_leg",
    box="main side",
    discrete="nothing left main right",
)
_CART_POLE = _Task("x vx angle spin", discrete="left right")
_ACROBOT = _Task("cos1 sin1 cos2 sin2 spin1 spin2", discrete="negative none positive")
_MOUNTAIN_CAR = _Task("position velocity", box="force", discrete="left nothing right")
_PENDULUM = _Task("cos_angle sin_angle spin", box="torque")
_BIPEDAL_WALKER = _Task(
    "angle spin vx vy hip1 hip1_speed knee1 knee1_speed contact1 hip2 hip2_speed knee2 knee2_speed contact2 "
    + " ".join(f"lidar{i}" for i in range(10)),
    box="hip1_motor knee1_motor hip2_motor knee2_motor",
)
_SWIMMER = _Task("angle rotor1 rotor2 vx vy spin rotor1_speed rotor2_speed", box="torque1 torque2")
_HOPPER = _Task(
    "z angle thigh leg foot vx vz spin thigh_speed leg_speed foot_speed", box="thigh_torque leg_torque foot_torque"
)
_HALF_CHEETAH = _Task(
    "z angle back_thigh back_shin back_foot front_thigh front_shin front_foot vx vz spin back_thigh_speed "
    "back_shin_speed back_foot_speed front_thigh_speed front_shin_speed front_foot_speed",
    box="back_thigh_torque back_shin_torque back_foot_torque front_thigh_torque front_shin_torque front_foot_torque",
)
_WALKER = _Task(
    "z angle thigh leg foot left_thigh left_leg left_foot vx vz spin thigh_speed leg_speed foot_speed "
    "left_thigh_speed left_leg_speed left_foot_speed",
    box="thigh_torque leg_torque foot_torque left_thigh_torque left_leg_torque left_foot_torque",
)

_TASKS = {
    "LunarLander-v3": _LANDER,
    "LunarLanderContinuous-v3": _LANDER,
    "CartPole-v1": _CART_POLE,
    "Acrobot-v1": _ACROBOT,
    "MountainCar-v0": _MOUNTAIN_CAR,
    "MountainCarContinuous-v0": _MOUNTAIN_CAR,
    "Pendulum-v1": _PENDULUM,
    "BipedalWalker-v3": _BIPEDAL_WALKER,
    "BipedalWalkerHardcore-v3": _BIPEDAL_WALKER,
    "Swimmer-v4": _SWIMMER,
    "Swimmer-v5": _SWIMMER,
    "Hopper-v4": _HOPPER,
    "Hopper-v5": _HOPPER,
    "HalfCheetah-v4": _HALF_CHEETAH,
    "HalfCheetah-v5": _HALF_CHEETAH,
    "Walker2d-v4": _WALKER,
    "Walker2d-v5": _WALKER,
}
