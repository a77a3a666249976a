"""One file, one Airflow DAG: wiring only. The work is in ``outwatch/pipeline/steps.py``."""
