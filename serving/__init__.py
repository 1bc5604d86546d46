"""The champion behind a web page and a small API, on this machine alone."""
