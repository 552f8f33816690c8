"""Many instances at once: the launch, its options, progress and report.

One instance is `lifecycle`'s work.
"""
