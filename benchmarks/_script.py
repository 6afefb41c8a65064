"""Imported by a benchmark that is run as a file: a clone needs no installation.

Python puts the folder of the file on the path; the packages stand beside that folder.
"""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])
