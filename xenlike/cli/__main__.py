"""`python -m xenlike.cli` is `xenlike`."""

from xenlike.cli import main

main()
