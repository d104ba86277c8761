"""Faults, injected for real: see `__main__.py`."""
