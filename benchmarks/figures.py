"""Draw the figures of README from the result files: ``python -m benchmarks.figures``.

    docs/rate_distortion.png   PSNR and LPIPS over rate, ours, classical codecs, published points apart
    docs/equal_bytes.jpg       one photo through several codecs at the same bytes

Each says in its metadata what it was drawn from, so that a test can tell whether it is still true.
"""
