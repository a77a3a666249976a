-- Runs once, on an empty volume: Airflow's metadata lives beside Outwatch's own database.
CREATE DATABASE airflow;
