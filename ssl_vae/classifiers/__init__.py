"""Classifiers that learn from the features of the labeled few."""
