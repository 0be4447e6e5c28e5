"""Features, probe, loaders, training and evaluation. Importing this package loads no torch."""

import os

# libgomp reads this when torch loads it: waiting threads then sleep instead of burning the core that another process
# needs (measured: 5 times slower training beside one busy process without it).
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
