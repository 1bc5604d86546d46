"""What takes a cluster: `make test-cluster`."""
