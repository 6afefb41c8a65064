"""Scores, bootstrap intervals, slices."""
