"""Comparison of the service with the claims of the simulator about it: probes, findings, observations.

`Probe` decides claims, `Finding` is the verdict about one claim, and `Observations` is the file of a run.
The simulator reads that file with code of its own. docs/conformance.md is the how-to.
"""
