"""What a run found: as JSON, as a table for the terminal, and as one page for a browser."""
