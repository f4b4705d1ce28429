"""`saga doctor`: what this machine has and whether a run would work here, without running one."""

from saga_ray.cli.doctor.findings import Finding, examine

__all__ = ["Finding", "examine"]
