"""Benchmarks: one script per question, each prints all sides as measured in one run."""

import logging

# Which backends are not there is no news.
logging.getLogger("jax._src.xla_bridge").setLevel(logging.WARNING)
