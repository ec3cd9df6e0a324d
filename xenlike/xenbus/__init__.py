"""xenbus: the device state machine, the base classes of drivers, and how drivers are found.

A driver is two classes and a protocol; `xenlike.frontends.echo` and `xenlike.backends.echo` are the
ones to copy. Everything a driver author needs is importable from here.
"""
