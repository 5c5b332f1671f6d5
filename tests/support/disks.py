"""A disk without room."""

import resource
from contextlib import contextmanager


@contextmanager
def full_disk(room=100):
    """Within it, a file that grows beyond so many bytes is an ``OSError``, as where the disk is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
