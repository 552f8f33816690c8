"""The commands of the command line, one module per group.

These modules define arguments and output. The library does the work.
"""
