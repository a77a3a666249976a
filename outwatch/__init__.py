"""What every part of Outwatch shares, and the front doors to it.

Belongs here: the domain, the settings, the pipeline that joins the four stages, and the ways in
(CLI, Airflow, simulator). Not here: anything that reads footage, finds things, stores or alerts.
"""

__version__ = "0.1.0"
