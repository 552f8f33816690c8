"""The values of the API as frozen attrs classes: catalogue, specs, instances, output.

No I/O and no wire format here: `http.codec` reads and writes JSON, and `resources` requests it.
"""
