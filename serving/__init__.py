"""The champion behind a web page and a small API."""
