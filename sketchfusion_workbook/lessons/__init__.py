"""Experiments that a notebook shows and the codec does not need."""
