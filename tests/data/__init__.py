"""The data: files, readers, splits and their checks."""
