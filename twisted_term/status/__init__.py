"""
Counting connections, and showing the numbers: a page, JSON, metrics.

The resource needs twisted.web; the monitor does not.
"""
