"""The verdict of a model that nobody trained for the task."""
