"""Pure functions of arrays: scores, intervals over patients, calibration, operating points."""
