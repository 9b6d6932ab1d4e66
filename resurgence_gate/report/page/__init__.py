"""The report as a page: one HTML file that asks nothing of the network, for reviewers and for the record."""

from resurgence_gate.report.page.render import to_html

__all__ = ["to_html"]
