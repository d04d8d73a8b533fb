"""What anysaga costs: `python -m benchmarks` prints a table."""
