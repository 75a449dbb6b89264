"""Figures of the workbook. Needs the extra ``workbook``; the codec itself never imports this."""

from . import charts, drawings, figures
from .figures import say, show

__all__ = ["charts", "drawings", "figures", "say", "show"]
