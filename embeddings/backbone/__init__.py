"""A language model: its YAML, loading, quantization, layers, and what runs it."""
