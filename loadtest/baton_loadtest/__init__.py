"""Load against a running Baton, and the numbers it gives.

A client like any other: speaks HTTP only.
"""
