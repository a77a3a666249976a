"""The words all stages share: types, errors, geometry and ports. Pure: no I/O, nothing of ours imported."""
