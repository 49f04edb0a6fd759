"""Accuracy, measured on pictures: FMR, FNMR, EER, refusals, plots."""
