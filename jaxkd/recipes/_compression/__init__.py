"""Compressing a trained model in stages, each measured, each resumable."""
