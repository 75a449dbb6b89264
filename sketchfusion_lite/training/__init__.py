"""Training of the codec: data, objectives, optimiser, loop and recipes.

Needs the extra ``train``; nothing else in the library imports this package except the command line.
"""
