"""The web front door (FastAPI). Belongs here: routes and pages. Not here: any work (``pipeline/``)."""
