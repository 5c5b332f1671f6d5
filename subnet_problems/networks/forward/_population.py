"""The forward pass of a whole population, by the fastest way that can compute the network.

No way looks at how many other episodes are alive: the output for one episode is the same bits alone and in any company.
"""

from __future__ import annotations

from ._chain import chain_population
from ._vmap import vmap_population
from ._way import Population, PopulationPolicy, Way

#: Tried in this order, the fastest first. The last one computes whatever can be vectorized.
WAYS: tuple[Way, ...] = (chain_population, vmap_population)


def make_population(population: Population) -> PopulationPolicy:
    """The fastest policy that can compute this population (see ``FrozenNetwork.population``)."""
    made = (way(population) for way in WAYS)
    return next(policy for policy in made if policy is not None)
