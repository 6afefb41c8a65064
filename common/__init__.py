"""What every room uses: files, locks, processes, the run directory."""
