"""What goes wrong from outside, for real: see docs/reliability.md."""
