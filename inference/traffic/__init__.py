"""Which version serves a call: aliases, and versions that are tried on a part of the calls."""
