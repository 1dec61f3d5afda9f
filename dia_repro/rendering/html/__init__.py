"""The report as a page: composition only, every figure is computed elsewhere."""

from dia_repro.rendering.html.page import make_page
from dia_repro.rendering.html.values import Commands, Picture, Report

__all__ = ["Commands", "Picture", "Report", "make_page"]
