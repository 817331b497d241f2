"""
Rolling restarts under load.
"""
