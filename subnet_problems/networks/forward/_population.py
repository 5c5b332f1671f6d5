"""The forward pass of a whole population, by the fastest implementation that supports the network.

No implementation depends on how many other episodes are alive: the output for an episode has the same bits when it is
computed alone and together with any others.
"""

from __future__ import annotations

from ._chain import chain_population
from ._gpu import gpu_population
from ._sparse import sparse_population
from ._vmap import vmap_population
from ._way import Population, PopulationPolicy, Way

#: The implementations in the order in which they are tried, fastest first. The last one supports any module that can
#: be vectorized.
WAYS: tuple[Way, ...] = (sparse_population, chain_population, gpu_population, vmap_population)


def make_population(population: Population) -> PopulationPolicy:
    """Return the fastest policy that can compute this population (see ``FrozenNetwork.population``)."""
    made = (way(population) for way in WAYS)
    return next(policy for policy in made if policy is not None)
