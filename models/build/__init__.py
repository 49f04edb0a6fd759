"""Rebuilds every shipped model from pinned registry packages: `models/build/build`."""
