"""The original's `ultralytics.engine`: results, and nothing else."""
