"""How policies meet environments: one file for each simulator, all with the same four methods."""
