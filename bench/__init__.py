"""Speed claims, each beside its peer in one run: `make bench`."""
