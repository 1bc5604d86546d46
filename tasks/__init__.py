"""Prefect's edge: retries, caching, artifacts and logging around the library's functions."""
