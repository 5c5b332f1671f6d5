"""Tasks: Gymnasium environments with rules for observations and actions, and the simulators that play them."""

from ._action_parts import DictActions, TupleActions
from ._action_rules import Actions, BoxActions, DiscreteActions, MultiBinaryActions, MultiDiscreteActions
from ._episodes import EvaluationError
from ._gym_task import GymTask
from ._observation_rules import BoxObservations, DictObservations, Observations, OneHotObservations, TupleObservations
from ._observation_stats import Normalizer
from ._spaces import actions_of, observations_of

__all__ = [
    "Actions",
    "BoxActions",
    "BoxObservations",
    "DictActions",
    "DictObservations",
    "DiscreteActions",
    "EvaluationError",
    "GymTask",
    "MultiBinaryActions",
    "MultiDiscreteActions",
    "Normalizer",
    "Observations",
    "OneHotObservations",
    "TupleActions",
    "TupleObservations",
    "actions_of",
    "observations_of",
]
