"""The stacker: dataset, LightGBM, tuning, nested cross-validation, files."""
