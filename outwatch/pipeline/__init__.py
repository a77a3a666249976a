"""One function per step, and the wiring that turns settings into adapters."""
