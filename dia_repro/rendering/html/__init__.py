"""The report as one page that needs nothing but itself; its values are computed elsewhere."""

from dia_repro.rendering.html.page import Commands, Picture, Report, Shown, make_page

__all__ = ["Commands", "Picture", "Report", "Shown", "make_page"]
