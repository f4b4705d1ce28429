"""Formats of an export, one file each, found by listing this folder; see `saga_ray.export.export.Format`."""
