"""Picture files by their specifications: samples, what they mean, and their colours in sRGB."""
