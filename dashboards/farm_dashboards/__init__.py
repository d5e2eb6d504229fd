"""The eyes of benchfarm: Documents in, figures out. Knows nothing of the database or the farm."""
