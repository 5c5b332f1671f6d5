"""WorkersLostError, in a module that needs neither Ray nor EvoTorch."""


class WorkersLostError(RuntimeError):
    """An evaluation ran out of workers. It was not counted, and the next evaluation starts new workers."""
