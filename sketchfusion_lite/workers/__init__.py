"""Work spread over processes and machines with Dask: what sweeps, folders and evaluations share.

tasks --> spread: at most a few in flight --> Dask workers, one thread each --> results as they come
"""

from .cluster import open_client, refuse_while_imported
from .spread import Finished, spread

__all__ = ["Finished", "open_client", "refuse_while_imported", "spread"]
