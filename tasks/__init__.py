"""Prefect's edge: retries, caching, artifacts and logs around the library's functions."""
