"""
The drain: how all connections of a server end when it stops.
"""
