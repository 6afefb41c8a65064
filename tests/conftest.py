"""One thread for every test: toy work gains nothing from more, and busy cores punish it."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
