"""Stages and recipes, freezing, the solved head, the trainer and cross-validation."""
