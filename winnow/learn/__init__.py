"""Features, probe, loaders, training and evaluation. Importing this package loads no torch."""

import os
import warnings

# libgomp reads this when torch loads it: waiting threads then sleep instead of burning the core that another
# process needs.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# fastai 2.8 with torch 2.15 and pandas 3 warns at import of what its reader can do nothing about.
warnings.filterwarnings("ignore", message=r".*torch\.jit\.script.* is deprecated")
warnings.filterwarnings("ignore", message=".*mode.chained_assignment.*")
