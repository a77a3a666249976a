"""Measurements beside other packages, run by hand; nothing here is installed or tested."""
