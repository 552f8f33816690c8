"""Many instances at once: the launch, its options, progress and report.

`lifecycle` handles single instances.
"""
