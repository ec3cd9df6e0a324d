"""One device protocol per module, the counterpart of Xen's `io/*.h`."""
