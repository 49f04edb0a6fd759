"""An admin's machine: keys, people, doors, what is published to them, and what they report."""
