"""The model fine-tuned to say A, B or tie."""
