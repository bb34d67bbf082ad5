"""The classic systems: each a function from a frozen config to an experiment."""
