"""Predictions that run later: accepted as rows, claimed in batches, ended once.

The row is the truth. What is heard on the way (a Celery message, an event, a webhook) may be lost
or come twice: the sweep puts it right.
"""
