"""The job that `xenlike demo` does, cut along its process boundary: `guest` runs in a domain, the rest on the host."""
