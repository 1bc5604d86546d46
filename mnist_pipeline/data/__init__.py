"""From a dataset, or a folder of images, to verified and hashed splits."""
