"""Generators that run in a checkout."""
