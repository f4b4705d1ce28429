"""`ray job submit --working-dir . -- python jobs/sweep.py loss_weights --set preset=furniture-cluster`: the
arguments of `saga sweep`.
"""

import sys
from pathlib import Path

# In a job's copy of this folder the package lies beside `jobs`, installed or not.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from saga_ray.cli import main

if __name__ == "__main__":
    sys.exit(main(["sweep", *sys.argv[1:]]))
