"""For who installs a unit and who looks after it: setup, doctor, bench."""
