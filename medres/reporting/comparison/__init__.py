"""Finished runs beside each other: read, paired scan by scan, taken together by seed, compared, shown."""
