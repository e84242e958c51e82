"""What takes long: drawing, training, comparing; kept in a queue and done by worker processes."""
