"""The door: one table, one controller that owns the line, one GPIO adapter."""
