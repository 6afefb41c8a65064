"""Handcrafted signals, one file per family."""
