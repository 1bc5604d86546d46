"""What a visitor sees, in a real browser: `make test-browser`."""
