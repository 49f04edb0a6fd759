"""Whose face it is and whether that opens the door: gallery, match, decide, enrol."""
