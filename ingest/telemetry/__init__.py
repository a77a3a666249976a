"""Telemetry of every format we meet, each read by one ``TelemetrySource`` found by content, not by name.

Belongs here: one module a format, and ``sources.py`` that knows them all. Not here: fitting telemetry to
a clip (``ingest/align.py``).
"""
