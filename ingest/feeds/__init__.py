"""Sensor feeds: transports that bring messages in, and payloads that turn bytes into observations.

Belongs here: MQTT, SensorThings over HTTP and dropped files (each a ``SensorFeed``), and what a message says.
Not here: whether a sensor is known and its value possible, and where readings are kept: the pipeline asks
the registry and stores a batch before it acknowledges it.
"""
