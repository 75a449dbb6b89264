"""Picture files by their specifications: samples, what they mean, and their colours in sRGB.

Everywhere ``name`` is what errors and warnings call the picture, and ``check_size`` raises :class:`.ImageError` for a
width and height over the limits. ``profile`` is an ICC profile of the colours; None is sRGB.
"""
