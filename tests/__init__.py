"""The tests: one file a room, under the wings of what they test."""
