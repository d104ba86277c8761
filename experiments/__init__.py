"""Programs around the package: benchmarks, ablations, faults, and flagfiles of runs."""

import logging

# Which backends are not there is no news.
logging.getLogger("jax._src.xla_bridge").setLevel(logging.WARNING)
