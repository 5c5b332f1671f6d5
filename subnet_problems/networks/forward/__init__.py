"""How the outputs of a whole population are computed, one file for each way."""
