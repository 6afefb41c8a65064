"""A trained run as an object."""
