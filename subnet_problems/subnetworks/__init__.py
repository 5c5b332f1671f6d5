"""Subnetworks: a frozen network with a mask, as a policy, a file, a formula or a program."""

from ._file_fields import SubnetworkFileError
from ._subnetwork import Subnetwork

__all__ = [
    "Subnetwork",
    "SubnetworkFileError",
]
