"""Figures of the workbook. Needs the extra ``workbook``; the codec itself never imports this."""

from . import charts, figures
from .figures import say, show

__all__ = ["charts", "figures", "say", "show"]
