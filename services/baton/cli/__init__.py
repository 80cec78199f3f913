"""The command line: a supervised local stack, a terminal chat, model pulls.

Knows HTTP and processes only.
"""
