"""How subnetworks are searched."""

from .elitist_gaussian import ElitistGaussianResampling

__all__ = ["ElitistGaussianResampling"]
