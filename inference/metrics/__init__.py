"""Watching: every process counts, Redis adds up, /metrics and the pages read.

`counting` is called on the path of a request, `flushing` carries what was counted to Redis once a
second, `exposition` writes it for Prometheus and `live` reads percentiles of the last hour and day.
"""
