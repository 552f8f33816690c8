"""Tables and timelines as text, HTML and SVG.

No input or output, and no import from the rest of the package.
"""
