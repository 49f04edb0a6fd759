"""Frames in, observations out: camera, runtime, detect, align, embed, quality."""
