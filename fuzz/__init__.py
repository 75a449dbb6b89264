"""Fuzzing: hostile streams and pictures by the million, with an oracle that says what may happen to them.

corpus.py    small streams of the shipped codec and small pictures of every format, made on the spot
mutate.py    what is done to them; structure-aware: fields are edited and checksums repaired
oracle.py    only SketchFusionError, in bounded time and memory; the tally of a run
parse.py     target: the container, and every section it returns
decode.py    target: entropy decoding and the networks, up to the preview
images.py    target: reading pictures
engine.py    a seeded loop of our own, or atheris, which is guided by coverage (extra ``fuzz``)

``python -m fuzz parse --seconds 60 --seed 1 --engine atheris``
"""
