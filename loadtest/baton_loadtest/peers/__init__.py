"""Baton beside other servers on the same machine, weights, client and prompts.

Nothing of theirs is imported here: each lives in an environment of its own, as processes.
"""
