"""The values of the API as frozen attrs classes: catalogue, specs, instances, output.

No I/O and no wire format here: `convert` reads and writes JSON, `resources` asks for it.
"""
