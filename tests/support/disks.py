"""A full disk."""

import resource
from contextlib import contextmanager


@contextmanager
def full_disk(room=100):
    """Inside this context, writing more than ``room`` bytes to a file raises ``OSError``, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
