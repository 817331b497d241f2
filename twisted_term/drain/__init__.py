"""
All connections of a server, and how they end together.
"""
