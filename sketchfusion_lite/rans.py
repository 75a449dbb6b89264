"""CompressAI's rANS coder without the rest of CompressAI.

``import compressai.ans`` first runs ``compressai/__init__.py``, which imports every model, data set and
``torch_geometric``: most of the time that loading a codec would take. The coder itself is one small extension module.
Loaded here under its own name, it is the same module that a later ``import compressai`` finds.

References
    [1] Duda, "Asymmetric numeral systems", arXiv:1311.2540; Giesen, "ryg_rans" (the implementation inside).
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from types import ModuleType

from .errors import DependencyMissing

_NAME = "compressai.ans"


def _load() -> ModuleType:
    if _NAME in sys.modules:
        return sys.modules[_NAME]
    package = importlib.util.find_spec("compressai")  # finds, does not import
    if package is None or not package.submodule_search_locations:
        raise DependencyMissing(
            "entropy coding needs the package 'compressai'. Install it with: pip install compressai==1.2.8"
        )
    finder = importlib.machinery.PathFinder()
    spec = finder.find_spec(_NAME, list(package.submodule_search_locations))
    if spec is None or spec.loader is None:
        raise DependencyMissing(
            "the installed compressai holds no rANS coder. Install: pip install --force-reinstall compressai==1.2.8"
        )
    module = importlib.util.module_from_spec(spec)
    sys.modules[_NAME] = module
    spec.loader.exec_module(module)
    return module


_ans = _load()
BufferedRansEncoder = _ans.BufferedRansEncoder
RansDecoder = _ans.RansDecoder

__all__ = ["BufferedRansEncoder", "RansDecoder"]
