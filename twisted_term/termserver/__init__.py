"""
C{twistd termserver}, the demo.
"""
