"""Measurements behind the scales, curves and thresholds of the service, and the files they write."""
