"""Bytes come in: footage and telemetry; validate, time, register."""
