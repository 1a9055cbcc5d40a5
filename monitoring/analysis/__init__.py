"""Advice, ladders of cuts and comparison: plain values in, plain values out."""
