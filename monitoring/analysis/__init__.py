"""Advice, projection check and comparison: plain values in, plain values out."""
