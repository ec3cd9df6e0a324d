"""Benchmarks: one runner, one file for each subject; `xenlike bench` is the way in."""
