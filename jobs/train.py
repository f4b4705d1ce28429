"""`ray job submit --working-dir . -- python jobs/train.py PRESET`: the arguments of `saga train`."""

import sys
from pathlib import Path

# In a job's copy of this folder the package lies beside `jobs`, installed or not.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from saga_ray.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
