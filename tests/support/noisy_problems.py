"""Small pymoo problems, with noise or with given objectives."""

import numpy as np
from pymoo.core.population import Population
from pymoo.core.problem import Problem


class Noisy(Problem):
    """Minimize (|x| + noise, last variable); the noise is Gaussian with standard deviation ``noise``."""

    def __init__(self, noise=0.0):
        self.num_evaluated = 0
        super().__init__(n_var=6, n_obj=2, xl=np.full(6, -2.0), xu=np.full(6, 3.0))
        self.noise, self.rng = noise, np.random.default_rng(0)

    def truth(self, x):
        return np.column_stack([np.linalg.norm(x[:, :-1], axis=1), x[:, -1]])

    def _evaluate(self, x, out, *args, **kwargs):
        self.num_evaluated += len(x)
        out["F"] = self.truth(x)
        out["F"][:, 0] += self.noise * self.rng.normal(size=len(x))


def rng():
    return np.random.default_rng(7)


def population(x, problem):
    pop = Population.new(X=x)
    pop.set("F", problem.evaluate(x))
    return pop


class Given(Problem):
    """Returns the given objectives, one array per evaluation; the optional constraint is x[0] <= 0."""

    def __init__(self, *rounds, num_objectives=2, constrained=False, fixed=False):
        upper = np.array([1.0, 0.0 if fixed else 1.0])
        super().__init__(
            n_var=2, n_obj=num_objectives, n_ieq_constr=int(constrained), xl=np.array([-1.0, 0.0]), xu=upper
        )
        self.rounds = [np.array(rows, dtype=float) for rows in rounds]

    def _evaluate(self, x, out, *args, **kwargs):
        rows = self.rounds.pop(0)
        out["F"] = rows[:, : self.n_obj]
        if self.n_ieq_constr:
            out["G"] = rows[:, self.n_obj :]


def given(problem, objectives, x=None):
    pop = Population.new(X=np.zeros((len(objectives), 2)) if x is None else np.array(x, dtype=float))
    pop.set("F", np.array(objectives, dtype=float))
    return pop
