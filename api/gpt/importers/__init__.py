"""Models that others trained, made into model directories; what a file says is never executed."""
