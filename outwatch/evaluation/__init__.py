"""How good the pipeline is, measured against images, clips and simulated flights whose truth is known.

Belongs here: expected and found, figures with their uncertainty, the report, and comparison with the
figures that were accepted. Not here: how boxes are matched (``detection/metrics.py``) and what is true of
a simulated flight (``outwatch/simulate/truth.py``), which knows nothing of the pipeline.
"""
