"""Results of a run: as JSON, as a table for the terminal, and as one page for a browser."""
