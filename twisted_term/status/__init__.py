"""
Keeping account of connections, and showing it: a page, JSON, metrics.

The resource needs twisted.web; keeping account does not.
"""
