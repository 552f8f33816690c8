"""A Dask cluster whose workers are containers: `FluenceCluster`. Needs the extra `dask`.

Imported by those who want it, and by nothing of the library's own.
"""

try:
    import distributed  # noqa: F401 - asked for here, so that there is one place that explains its absence
except ModuleNotFoundError:
    raise ModuleNotFoundError("aiofluence.dask needs an extra: pip install 'aiofluence[dask]'") from None

from .cluster import FluenceCluster

__all__ = ["FluenceCluster"]
