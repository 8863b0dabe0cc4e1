"""Models, errors, the index and the schedule of the catalogue: pure, without I/O."""
