"""Airflow provider that couples Ax (which parameters to try next) with TorchX (run this app on any scheduler)."""

__version__ = "0.1.0"
