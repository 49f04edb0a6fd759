"""What a support engineer asks for: a table of checks, one small module for each part of a unit."""
