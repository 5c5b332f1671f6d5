"""The keyword arguments of problems: their signature, and errors for misspelled ones."""

import inspect

import pytest

from subnet_problems import DenseGymProblem, MaskedGymProblem
from subnet_problems.problems import GymOptions


@pytest.mark.parametrize("problem", [MaskedGymProblem, DenseGymProblem])
def test_the_signature_has_all_options_with_their_defaults(problem):
    parameters = inspect.signature(problem).parameters
    assert set(GymOptions.__annotations__) < set(parameters)
    assert [parameter.kind for parameter in parameters.values()].count(inspect.Parameter.VAR_KEYWORD) == 0
    assert parameters["num_episodes"].default == 1
    assert parameters["backend"].default == "auto"
    assert "num_episodes: int = 1" in str(inspect.signature(problem))


@pytest.mark.parametrize(
    ("wrong", "meant"), [("num_episode", "num_episodes"), ("mask", "mask_rule"), ("sparsty", "sparsity")]
)
def test_a_misspelled_argument_is_refused_with_a_suggestion(wrong, meant):
    message = rf"MaskedGymProblem\(\) got an unexpected keyword argument '{wrong}'\. Did you mean '{meant}'\?"
    with pytest.raises(TypeError, match=message):
        MaskedGymProblem("CartPole-v1", **{wrong: 3})


def test_a_subclass_may_define_its_own_constructor():
    class Pole(MaskedGymProblem):
        def __init__(self, seed):
            super().__init__("CartPole-v1", hidden_sizes=(2,), seed=seed)

    assert list(inspect.signature(Pole).parameters) == ["seed"]
    assert Pole(3).problem_seed == 3
