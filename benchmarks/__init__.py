"""Side-by-side measurements of what this package costs: ``python -m benchmarks --help``."""
