"""Text that is written character by character, and what it costs.

The gateway sets money aside for the longest answer, puts the order where a predict worker finds it,
and passes on what the worker writes. The worker writes all texts of a version in steps, ends their
holds, and says so. Whoever dies, a hold ends once: captured for what was written, or not charged.
"""
