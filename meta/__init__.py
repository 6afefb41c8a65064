"""The second stage: design matrix, views that learn, LightGBM, tuning, calibration, evaluation."""
