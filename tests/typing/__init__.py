"""
Programs that nobody runs: L{tests.test_typing} gives them to type checkers.
"""
