"""The forward pass of a whole population, one file for each implementation."""
