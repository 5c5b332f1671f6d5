"""WorkersLostError, in a module that needs neither Ray nor EvoTorch."""


class WorkersLostError(RuntimeError):
    """An evaluation ran out of workers. Nothing of it was counted, and the next one starts new workers."""
