"""Populations with given values, and their fitness."""

import torch


def batch_of(problem, values):
    """A population with these values ``(N, D)``, not evaluated yet."""
    batch = problem.generate_batch(len(values), empty=True)
    batch.set_values(values)
    return batch


def fitness(problem, values, rounds=1):
    """Fitness ``(rounds, N)`` of these solutions in the next rounds."""
    evals = []
    for _ in range(rounds):
        batch = batch_of(problem, values)
        problem.evaluate(batch)
        evals.append(batch.evals[:, 0].clone())
    return torch.stack(evals)
