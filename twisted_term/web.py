"""
A C{Site} that knows whether it is drained, and the answer to a load balancer that
asks for readiness.
"""

from .status.site import DrainingSite, ReadinessResource

__all__ = ["DrainingSite", "ReadinessResource"]
