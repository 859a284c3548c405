"""The model: from files on disk to sampled text."""
