"""The second stage: design matrix, probes, LightGBM, tuning, calibration, evaluation."""
