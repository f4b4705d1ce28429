"""MLflow: what a run logs and where it is kept.

MLflow reads its environment when it is imported, so it is set here, before `saga_ray.tracking.mlflow` imports
it: no telemetry, and a tracking server that does not answer is given up after seconds, not minutes. What the
user has set wins.
"""

import os

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
