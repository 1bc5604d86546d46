"""What was served, kept, corrected and judged: not needed to understand a training."""
