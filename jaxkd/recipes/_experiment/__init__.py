"""Experiments: a teacher, ways to train students, several seeds, a report."""
