"""
A C{Site} that says whether it is drained, and the readiness that a load balancer
asks for.
"""

from .status.site import DrainingSite, ReadinessResource

__all__ = ["DrainingSite", "ReadinessResource"]
