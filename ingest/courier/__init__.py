"""A courier's packages: made at a station, sent over a weak link or carried on a stick."""
