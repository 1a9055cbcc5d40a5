"""Lets a script of this folder import the checkout, wherever it is run from: import it first."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
