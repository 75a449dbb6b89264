"""Figures of the workbook. Needs the extra ``workbook``; the codec itself never imports this."""

from . import figures
from .figures import say, show

__all__ = ["figures", "say", "show"]
