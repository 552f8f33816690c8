"""The verbs of the command line, one module for each group.

Arguments and output are here; the work is the library's.
"""
