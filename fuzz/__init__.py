"""Fuzzing: hostile streams and pictures, drawn by hypothesis, and the properties that must hold of every one.

corpus.py      small streams of the shipped codec and small pictures of every format, made on the spot
strategies.py  what is done to them; structure-aware: fields are edited and checksums repaired
targets.py     parse, decode, images: what may come of an input, and the account of what did

``python -m fuzz parse --seconds 60 --seed 1``; ``--engine atheris`` is led by coverage (extra ``fuzz``).
"""
