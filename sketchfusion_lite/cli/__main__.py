"""``python -m sketchfusion_lite.cli``, also what ``accelerate launch -m`` starts."""

from . import app

app(prog_name="sketchfusion")
