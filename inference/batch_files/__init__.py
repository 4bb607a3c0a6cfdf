"""Batch files: uploaded, checked, priced, run in chunks, downloaded."""
