"""Benchmarks: one script per question, each prints all sides as measured in one run."""
