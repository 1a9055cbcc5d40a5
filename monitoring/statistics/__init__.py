"""Covariance of channels, metrics and error bars: no layers, no files."""
