"""A Dask cluster whose workers are containers: `FluenceCluster`. Needs the extra `dask`.

No other module of the library imports this package.
"""

try:
    import distributed  # noqa: F401 - imported here, so that one place explains a missing extra
except ModuleNotFoundError:
    raise ModuleNotFoundError("install aiofluence with its extra `dask`, which has distributed") from None

from .cluster import FluenceCluster

__all__ = ["FluenceCluster"]
