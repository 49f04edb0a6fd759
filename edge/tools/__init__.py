"""For the installer: doctor and bench."""
