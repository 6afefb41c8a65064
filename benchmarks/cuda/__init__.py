"""The check of a machine with a card: ``benchmarks/cuda_check.py``, point by point."""
