"""The tests of mnist_pipeline/tracking."""
