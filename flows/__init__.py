"""What happens, in which order: each flow reads like a table of contents."""
