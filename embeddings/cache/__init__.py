"""What a model said, kept by content."""
