"""Scores of masks and boxes against ground truth."""
