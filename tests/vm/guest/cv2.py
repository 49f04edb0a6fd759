"""Stands for OpenCV in the guest, where no door has eyes: what is imported there asks only for its name."""
