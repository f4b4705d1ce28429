"""The report: one HTML page of a run that opens from disk.

`build` makes its sections from a run's tables and records, `write_report` writes it.
"""

from saga_ray.retrieval.report.data import Omitted, ReportData, ResultTable
from saga_ray.retrieval.report.page import write_report

__all__ = ["Omitted", "ReportData", "ResultTable", "write_report"]
