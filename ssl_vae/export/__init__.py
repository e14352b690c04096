"""A finished run as files that other programs read."""
