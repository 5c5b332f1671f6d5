"""Subnetworks: a frozen network and the mask that was found for it, as a policy, a file, a formula or a program."""

from ._file_fields import SubnetworkFileError
from ._subnetwork import Subnetwork

__all__ = [
    "Subnetwork",
    "SubnetworkFileError",
]
