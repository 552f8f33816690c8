"""Pollers, one per kind: the state of all awaited instances, and the times at which it is requested.

The pollers deploy and end nothing.
"""
