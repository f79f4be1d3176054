"""The bundle (a trained ensemble as a folder that proves itself) and the predictor that uses it."""
