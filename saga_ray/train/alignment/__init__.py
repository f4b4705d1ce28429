"""Alignment: the training of a pocket supervisor on the pictures and attributes of a table, and its
measurement."""

from saga_ray.train.alignment.evaluate import SupervisorScores, evaluate_supervisor, verdict_accuracy
from saga_ray.train.alignment.job import train_supervisor
from saga_ray.train.alignment.report import AlignmentReport

__all__ = [
    "AlignmentReport",
    "SupervisorScores",
    "evaluate_supervisor",
    "train_supervisor",
    "verdict_accuracy",
]
