"""The report of an evaluation on composed retrieval: one HTML page that opens from disk."""

from saga_ray.composed.report.page import write_cir_report

__all__ = ["write_cir_report"]
