"""
One connection, from the first byte to the report on its end.
"""
